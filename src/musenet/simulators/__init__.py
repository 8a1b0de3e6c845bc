"""Generators of ordinary log files, for tests, demonstrations and benchmarks."""
