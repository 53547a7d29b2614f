"""Sentences about labels whose unit, sign or method does not fit what physics says of the structures."""
