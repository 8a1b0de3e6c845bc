"""Guessing a configuration from a log's files: what columns hold, which roles they play, what they are good for."""
