"""Training that starts from a model."""
