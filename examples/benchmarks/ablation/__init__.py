"""Parts of the ablation: the variants and the page."""
