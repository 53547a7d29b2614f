"""Files of structures: reading, writing, and messages about files that cannot be read."""
