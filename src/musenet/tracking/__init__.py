"""Trainings recorded in services of experiment tracking, by listening to them."""
