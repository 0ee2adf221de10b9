"""The `evaluate` module of `copy_tests`."""
