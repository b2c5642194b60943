"""What can go wrong in training, as one tree; fetching raises `export.common.errors.PackageError`.

TrainingError
├── StateError          a file of weights, or of an unfinished run, cannot be read or does not fit
└── PeerError           a reader to compare with cannot be used
"""

__all__ = ["PeerError", "StateError", "TrainingError"]


class TrainingError(Exception):
    """The root of the tree above."""


class StateError(TrainingError):
    """A file of weights, or of an unfinished run, cannot be read or does not fit."""


class PeerError(TrainingError):
    """A reader to compare with cannot be used."""
