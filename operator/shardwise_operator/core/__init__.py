"""The pure part of the operator: no clock, no network, no Kubernetes client; the cluster and the laptop share it."""
