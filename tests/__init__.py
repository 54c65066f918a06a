"""A package, so that tests and benchmarks share what lies in `tests.support`."""
