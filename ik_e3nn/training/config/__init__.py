"""The settings of each command, and the YAML files that they are read from."""
