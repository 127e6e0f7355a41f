"""What things are: the nouns, the YAML of datasets, models and sites, and their checks."""
