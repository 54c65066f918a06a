"""Tests against real servers and real files."""
