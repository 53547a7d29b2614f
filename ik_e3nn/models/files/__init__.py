"""Model files: writing, reading, upgrading, and finding them."""
