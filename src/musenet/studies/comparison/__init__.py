"""Models × seeds on one dataset, in one table."""
