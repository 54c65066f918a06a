"""What tests start, wait for and compare with."""
