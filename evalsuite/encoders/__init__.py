"""Models: media in, features out; the registry and the feature cache."""
