"""A metric, an encoder and a generator for evalsuite."""
