"""Which atoms are near each other."""
