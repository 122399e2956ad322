"""Benchmarks of the analysis path: nightly reports, increments, ticks, one-shot decisions."""
