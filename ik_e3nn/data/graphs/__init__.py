"""Data sets of graphs, files of their edges, and splits of data sets."""
