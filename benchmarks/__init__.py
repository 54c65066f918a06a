"""Measurements of the product against its own slower ways, in one run on one machine: docs/benchmarks.md."""
