"""Statistics of what people said: opinion scores, preferences, agreement, screening."""
