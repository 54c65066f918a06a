"""What an engine is written with."""
