"""Scores of candidates from an export folder."""
