"""The `evaluate` module of `mode_tests`."""
