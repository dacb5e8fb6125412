"""Networks and count models: plain classes that know no trainer, no config and no files."""
