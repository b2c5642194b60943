"""What can go wrong when a server is started.

ServerError
├── InstallationError   no tritonserver, or a file or package that it needs is missing or unfit
├── RepositoryError     the model repository is missing, cannot be read, or has nothing to serve
├── PortInUseError      another process listens on a port that was asked for
├── SharedMemoryError   /dev/shm cannot hold what the Python models need
├── KeyFileError        a file holds no public key that signatures can be verified with
├── SignatureError      a model is not as somebody signed it; `file` is where
├── StartError          tritonserver ended, or did not come up in time
└── NoAnswerError       a running tritonserver is not reached, or hangs up
"""

__all__ = [
    "InstallationError",
    "KeyFileError",
    "NoAnswerError",
    "PortInUseError",
    "RepositoryError",
    "ServerError",
    "SharedMemoryError",
    "SignatureError",
    "StartError",
    "shown",
]


def shown(name: str) -> str:
    """The name of a model or a file on one line, whatever it is called."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


class ServerError(RuntimeError):
    """The server cannot be started; the message says why and what to do."""


class InstallationError(ServerError):
    """No tritonserver was found, or a file or package that it needs is missing or unfit."""


class RepositoryError(ServerError):
    """The model repository is missing, cannot be read, or has nothing to serve."""


class PortInUseError(ServerError):
    """Another process listens on a port that was asked for."""


class SharedMemoryError(ServerError):
    """/dev/shm has too little space for the Python models."""


class KeyFileError(ServerError):
    """A file holds no public key of an elliptic curve, or cannot be read."""


class SignatureError(ServerError):
    """A model is not as somebody signed it: `file`, "" for the folder as a whole, and its `fault`."""

    def __init__(self, file: str, fault: str):
        super().__init__(f"{shown(file)} {fault}".strip())
        self.file, self.fault = file, fault


class StartError(ServerError):
    """tritonserver ended, or did not come up in time."""


class NoAnswerError(ServerError):
    """A running tritonserver is not reached, or hangs up."""
