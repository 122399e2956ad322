"""What to measure: one file a metric kind."""
