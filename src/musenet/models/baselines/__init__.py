"""The models that MUSENET is compared with, each in one file."""
