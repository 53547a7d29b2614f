"""The folder of a run, its checkpoints and its clock, and how a run is resumed."""
