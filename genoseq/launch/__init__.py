"""How a sweep's jobs get processes and devices: Hydra launchers and a sweeper."""
