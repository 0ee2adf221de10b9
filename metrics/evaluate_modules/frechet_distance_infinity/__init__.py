"""The `evaluate` module of `frechet_distance_infinity`."""
