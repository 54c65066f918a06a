"""The control loop: from a run and what is seen of its children to what must be done and what its status says."""
