"""Parts of the comparison of potentials: data sets, recipes, workers in each package's interpreter, and the report."""
