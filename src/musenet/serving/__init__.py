"""A trained run as a service: exported, scored, kept current."""
