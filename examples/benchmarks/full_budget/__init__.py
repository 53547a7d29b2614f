"""Parts of the benchmark with a full budget: the sets with published errors, and the page."""
