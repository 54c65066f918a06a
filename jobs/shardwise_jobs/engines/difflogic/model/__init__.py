"""The mathematics of one training step and one hard rollout, from gates to a batch: to read, and compiled to run."""
