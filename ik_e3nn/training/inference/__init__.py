"""Predictions of a model on many structures: as arrays, files, tables and pictures."""
