"""Point clouds, the solids and files they are sampled from, and particles on springs."""
