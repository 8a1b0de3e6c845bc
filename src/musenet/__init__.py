"""Learn the hidden scenarios in a recommendation log, and predict clicks with them."""

__version__ = "0.1.0"
