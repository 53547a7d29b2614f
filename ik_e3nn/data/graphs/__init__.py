"""Data sets of graphs, their files of edges, and how sets are split."""
