"""Files of structures: reading and writing them, and what is wrong with those that cannot be read."""
