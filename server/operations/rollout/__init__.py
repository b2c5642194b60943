"""A new version of a model, tried beside the old one: `python -m server rollout`."""
