"""The `evaluate` module of `subgroup_tests`."""
