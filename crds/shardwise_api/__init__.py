"""The contract between people, operator and workers: one place that all of them read, and that reads none of them."""

GROUP = "shardwise.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
