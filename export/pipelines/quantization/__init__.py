"""Lighter siblings of a model: INT8 for CPUs, FP16 for GPUs (docs/how-to/lighter-models.md).

`export.sources.pictures` makes the pictures; `pipeline.export_lighter` does the rest.
"""
