"""Lends the tests of frames the graphs of models that were exported before."""

from serving.conftest import graphs_lent

__all__ = ["graphs_lent"]
