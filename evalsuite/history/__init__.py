"""Runs over time: a database file, trends, stages with targets, waivers that expire."""
