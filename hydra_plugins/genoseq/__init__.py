"""genoseq's plug-ins for Hydra, which looks for them in this package."""
