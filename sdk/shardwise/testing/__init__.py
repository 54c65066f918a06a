"""Tests that an engine inherits."""
