"""The networks: potentials, properties, point clouds and forecasts, and what they are made of."""
