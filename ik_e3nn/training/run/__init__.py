"""What of a run outlives its process: the folder, checkpoints, the clock, and how it is resumed."""
