"""Point clouds as graphs."""
