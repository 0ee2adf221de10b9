"""Recordings made from recordings, and speech from text."""
