"""The `evaluate` module of `utility_tests`."""
