"""Checks of model.py, which is parsed and never run: only what it surely does is an error."""
