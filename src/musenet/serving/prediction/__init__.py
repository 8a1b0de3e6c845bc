"""Scores of whole tables and files: many requests at once, in bounded memory."""
