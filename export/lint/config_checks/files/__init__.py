"""Checks of what lies in a model's folder, and of what a config says of it."""
