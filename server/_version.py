"""The version of the wheel that is built from this folder."""

__version__ = "0.1.0"
