"""Image generators that need no download."""
