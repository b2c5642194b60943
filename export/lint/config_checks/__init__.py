"""Checks of configs and of the files beside them."""
