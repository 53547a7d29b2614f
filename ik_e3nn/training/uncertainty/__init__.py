"""Calibration of how sure models are."""
