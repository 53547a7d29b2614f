"""Parts of the QM9 benchmark: data, models, runs and the page."""
