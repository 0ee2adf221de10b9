"""The `evaluate` module of `vendi_ratio`."""
