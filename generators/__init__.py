"""Samples in, samples out, with provenance."""
