"""The `evaluate` module of `feature_likelihood_divergence`."""
