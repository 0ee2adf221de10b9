"""The `evaluate` module of the Fréchet distance."""
