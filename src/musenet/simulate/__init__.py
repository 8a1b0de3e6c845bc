"""Generators of ordinary log files with known truths, for tests, demonstrations and benchmarks."""
