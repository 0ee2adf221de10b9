"""From a result to pages and files that people and machines read."""
