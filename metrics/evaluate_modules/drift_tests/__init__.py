"""The `evaluate` module of `drift_tests`."""
