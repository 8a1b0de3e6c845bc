"""Models of what the user did before: events in order, and apart from each other."""
