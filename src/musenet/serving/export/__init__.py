"""From a run to the folder that serving it takes."""
