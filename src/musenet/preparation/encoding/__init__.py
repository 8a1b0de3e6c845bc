"""The second half of preparation: from ordered relations to a dataset's columns."""
