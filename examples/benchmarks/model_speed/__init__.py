"""Parts of potential_speed.py."""
