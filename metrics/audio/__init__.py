"""Readable properties of recordings, and how natural speech sounds."""
