"""The networks of the catalogue. Module names are those of the public checkpoints, so these load as is."""
