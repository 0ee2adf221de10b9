"""Corrections: operations fitted so that synthetic data comes nearer to the real."""
