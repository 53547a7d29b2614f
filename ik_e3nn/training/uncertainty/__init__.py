"""Calibration of the uncertainty of models."""
