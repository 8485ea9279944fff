"""Measured comparisons with named peers: `python -m tests.benchmarks.<name>`; not part of the test suite."""
