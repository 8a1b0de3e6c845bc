"""The experiment: what a YAML may say, validated whole before anything runs."""
