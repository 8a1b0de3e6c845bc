"""What computes relations: DuckDB, or Spark."""
