"""The simulated hotel log with planted scenarios."""
