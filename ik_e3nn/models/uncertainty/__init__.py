"""How sure models are: committees, last layers, and their files."""
