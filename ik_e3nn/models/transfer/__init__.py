"""Make models for further elements, other targets or surroundings from trained models."""
