"""What preparation saw, and what it warns of."""
