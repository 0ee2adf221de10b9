"""The `evaluate` module of the classifier two-sample test."""
