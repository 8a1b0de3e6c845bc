"""One option at a time around the configured values."""
