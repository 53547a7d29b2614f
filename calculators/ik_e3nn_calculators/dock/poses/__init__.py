"""From relaxed poses to a ranked list."""
