"""Drift of single columns, and corrections for looking at many."""
