"""Parts of the benchmark of fine-tuning: problems and report."""
