"""One YAML file to a checked pipeline."""
