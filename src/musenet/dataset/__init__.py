"""The prepared dataset on disk, and the batches that are read from it."""
