"""The steps, one a file, named by what they do.

A step is a plain function that runs without Prefect, Dask or a network beyond the store it is given, and a
task object beside it (`preprocess_source`, then `preprocess_source_task`): so it pickles by reference and
tests call it bare. Steps hand one another references (keys, digests), never data, and do not import one
another. How to add one: `CONTRIBUTING.md`.
"""
