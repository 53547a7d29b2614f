"""The files that runs write: trajectories, tables, pictures and summaries."""
