"""Walking forward through a log, period by period, by several policies."""
