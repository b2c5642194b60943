"""The command line: `python -m client`, installed `triton-vision`."""
