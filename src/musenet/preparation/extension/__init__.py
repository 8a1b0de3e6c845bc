"""A dataset grows: rows of a later period are added, and codes that were given stay."""
