"""What decides a dataset, apart from the log itself."""
