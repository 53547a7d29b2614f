"""Make models for further elements or other targets from trained models."""
