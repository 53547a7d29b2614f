"""Parts of the benchmark of a ligand in a rigid pocket: the cut, the frames and the report."""
