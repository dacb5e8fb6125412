"""Neural networks: plain modules that know no trainer, config or file."""
