"""Looks at this machine: what it can serve, on a GPU or without, and what is to be done about the rest."""
