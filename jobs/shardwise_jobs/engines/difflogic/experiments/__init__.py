"""What is learned: presets and their overrides, samples, and trials of a trained circuit."""
