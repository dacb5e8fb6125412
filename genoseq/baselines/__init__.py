"""Count models: what a network has to be better than."""
