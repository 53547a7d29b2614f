"""Molecules with properties: readers of files and of QM9, references, and sources of bonds."""
