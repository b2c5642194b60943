"""Start the real Triton Inference Server, in the container or from a pip wheel."""

from .api import ModelStatus
from .errors import (
    InstallationError,
    PortInUseError,
    RepositoryError,
    ServerError,
    SharedMemoryError,
    StartError,
)
from .process import TritonServer
from .repository import config_path

__all__ = [
    "InstallationError",
    "ModelStatus",
    "PortInUseError",
    "RepositoryError",
    "ServerError",
    "SharedMemoryError",
    "StartError",
    "TritonServer",
    "config_path",
]
