"""The `evaluate` module of precision, recall, density and coverage."""
