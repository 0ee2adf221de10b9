"""The `evaluate` module of kernel distances."""
