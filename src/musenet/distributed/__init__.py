"""Several processes that train one model, or score with it."""
