"""Data sets: find, read, check, fingerprint."""
