"""What runs in a pod, or in a process of the local runner: worker entry, blocks, ledger, progress and engines."""
