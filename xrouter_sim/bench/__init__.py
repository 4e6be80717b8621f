"""Benchmarks: one module each, with a `run` that returns ratios to a reference measured in the same run."""
