"""What can go wrong when a server is started.

ServerError
├── InstallationError   no tritonserver, or a file or package that it needs is missing or unfit
├── RepositoryError     the model repository is missing or has nothing to serve
├── PortInUseError      another process listens on a port that was asked for
├── SharedMemoryError   /dev/shm cannot hold what the Python models need
├── StartError          tritonserver ended, or did not come up in time
└── NoAnswerError       a running tritonserver is not reached, or hangs up
"""

__all__ = [
    "InstallationError",
    "NoAnswerError",
    "PortInUseError",
    "RepositoryError",
    "ServerError",
    "SharedMemoryError",
    "StartError",
]


class ServerError(RuntimeError):
    """The server cannot be started; the message says why and what to do."""


class InstallationError(ServerError):
    """No tritonserver was found, or a file or package that it needs is missing or unfit."""


class RepositoryError(ServerError):
    """The model repository is missing or has nothing to serve."""


class PortInUseError(ServerError):
    """Another process listens on a port that was asked for."""


class SharedMemoryError(ServerError):
    """/dev/shm has too little space for the Python models."""


class StartError(ServerError):
    """tritonserver ended, or did not come up in time."""


class NoAnswerError(ServerError):
    """A running tritonserver is not reached, or hangs up."""
