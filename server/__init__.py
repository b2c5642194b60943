"""Start the real Triton Inference Server, in the container or from a pip wheel."""

from ._version import __version__
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
from .supervisor import Supervisor

__all__ = [
    "InstallationError",
    "ModelStatus",
    "PortInUseError",
    "RepositoryError",
    "ServerError",
    "SharedMemoryError",
    "StartError",
    "Supervisor",
    "TritonServer",
    "__version__",
    "config_path",
]
