"""The networks: potentials, properties, point clouds and forecasts, and their parts."""
