"""The run folder, and a run that was opened."""
