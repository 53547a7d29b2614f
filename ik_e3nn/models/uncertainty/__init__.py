"""Standard deviations of predictions: committees, last layers, and their files."""
