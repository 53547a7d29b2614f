"""Parts of the benchmark of point clouds."""
