"""Lightning: one module, its metrics and its callbacks."""
