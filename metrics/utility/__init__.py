"""Is it useful for training? Train-on-synthetic-test-on-real probes and subgroups."""
