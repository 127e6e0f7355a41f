"""The report as a person reads it: one HTML file with its pictures inside, from a `Report` and nothing else."""
