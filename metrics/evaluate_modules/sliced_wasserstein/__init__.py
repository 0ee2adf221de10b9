"""The `evaluate` module of the sliced Wasserstein distance."""
