"""Parts of the benchmark of one convolution."""
