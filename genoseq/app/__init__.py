"""What commands share: composing, building, checkpoints, run folders."""
