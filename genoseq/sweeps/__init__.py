"""Sweeps: Hydra launchers and sweepers, and the table and picture of what they found."""
