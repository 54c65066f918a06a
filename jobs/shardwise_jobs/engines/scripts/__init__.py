"""A suite of training scripts, run in parallel with retries, logs and a summary."""
