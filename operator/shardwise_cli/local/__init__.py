"""The local runner: an Indexed Job controller of processes, driven by the same plan as the operator."""
