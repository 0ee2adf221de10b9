"""The `evaluate` module of `max_sliced_wasserstein`."""
