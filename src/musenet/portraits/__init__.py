"""What the scenarios of a run are."""
