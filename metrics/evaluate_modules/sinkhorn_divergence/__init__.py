"""The `evaluate` module of `sinkhorn_divergence`."""
