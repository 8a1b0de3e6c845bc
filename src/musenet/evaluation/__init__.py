"""From a run folder to figures with intervals."""
