"""Selection: which synthetic samples to keep, and what it costs in coverage."""
