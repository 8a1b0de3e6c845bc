"""A log's Parquet and CSV files: opened, read, cleaned, brought together."""
