"""Benchmarks of chemistry steps: cost and error side by side on the same cells, on one core, in one run."""
