"""The report's sentences, captions and tables."""
