"""Models that multiply features: what a network alone learns slowly."""
