"""Reading, cutting and sampling genomes."""
