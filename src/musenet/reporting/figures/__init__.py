"""The report's figures, each a function of data."""
