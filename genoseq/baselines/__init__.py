"""Baselines: the order-k Markov model and the interpolated Markov model."""
