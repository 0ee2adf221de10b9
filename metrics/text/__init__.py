"""Readable properties of texts, copies among them, and what recognised speech got wrong."""
