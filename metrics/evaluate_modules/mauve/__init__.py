"""The `evaluate` module of MAUVE."""
