"""Generators behind an HTTP endpoint on premise."""
