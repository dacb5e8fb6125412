"""Measurements of a split and of a trained model: leakage, metrics by position."""
