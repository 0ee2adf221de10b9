"""Texts made from texts."""
