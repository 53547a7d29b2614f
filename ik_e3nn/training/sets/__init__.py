"""From files to sets of structures, and from sets to batches."""
