"""Buckets: local copies of datasets, runs and exports that lie there, and sending what is written to them."""
