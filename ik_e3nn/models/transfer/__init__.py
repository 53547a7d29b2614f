"""Models for further elements or other properties, made from trained ones."""
