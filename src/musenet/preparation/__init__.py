"""From a source's tables to a prepared dataset."""
