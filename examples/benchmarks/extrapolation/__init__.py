"""Parts of the benchmark of extrapolation: molecules and their scans, trainings, and the page."""
