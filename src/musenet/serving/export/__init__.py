"""From a run to what serving it takes: the export folder, and a store filled with its users' histories."""
