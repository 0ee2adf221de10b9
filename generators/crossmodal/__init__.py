"""Generators from one modality to another."""
