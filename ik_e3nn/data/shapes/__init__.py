"""Point clouds, the solids and files that they come from, and particles on springs."""
