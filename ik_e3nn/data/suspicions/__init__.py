"""Warnings about labels whose unit, sign or method contradicts the physics of the structures."""
