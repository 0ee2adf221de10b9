"""Readable properties of images."""
