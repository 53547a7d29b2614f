"""Generation of structures: sampling, and labels from a reference method."""
