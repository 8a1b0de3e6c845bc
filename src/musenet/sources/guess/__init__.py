"""What `musenet init` concludes from a log's files."""
