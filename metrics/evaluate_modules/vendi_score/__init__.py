"""The `evaluate` module of the Vendi score."""
