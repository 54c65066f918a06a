"""Tests that break things at random moments and look at the result."""
