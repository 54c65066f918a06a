"""Arbitrary input from outside: nothing of it is an unhandled exception, and none of it costs more than its size."""
