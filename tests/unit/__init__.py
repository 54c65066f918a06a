"""Tests of what needs nothing but itself."""
