"""Start the real Triton Inference Server, in the container or from a pip wheel."""

from ._version import __version__
from .environment.repository import config_path
from .errors import (
    InstallationError,
    PortInUseError,
    RepositoryError,
    ServerError,
    SharedMemoryError,
    StartError,
)
from .running.api import ModelStatus
from .running.process import TritonServer
from .watching.supervisor import Supervisor

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
