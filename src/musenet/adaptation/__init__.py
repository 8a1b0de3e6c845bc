"""A trained model goes through a period in order of time and learns from answers as they come in."""
