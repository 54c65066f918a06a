"""From step to step: the loop over ranks, checkpoints, history, and what a rank has room for."""
