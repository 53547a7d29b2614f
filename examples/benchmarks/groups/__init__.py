"""Parts of groups.py: analytic terms of walls, and the page."""
