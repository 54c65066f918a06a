"""Scripts as processes: attempts, time limits, interrupts, logs, and the order of them all."""
