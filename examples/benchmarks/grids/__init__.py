"""Parts of the benchmark of grids."""
