"""Measurements of a trained model: leakage, metrics by position, scores by record."""
