"""Lends the cases of serving what the tests of serving have."""

from serving.conftest import address, exported, graphs_lent, opened, redis_address

__all__ = ["address", "exported", "graphs_lent", "opened", "redis_address"]
