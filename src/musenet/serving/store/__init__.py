"""Users' histories, kept up to date."""
