"""Whether what a model is asked today still is what it was trained on, and what of it moved."""
