"""A request that cannot be answered, with TensorFlow Serving's status code and words."""

from grpc import StatusCode

__all__ = ["Refusal", "StatusCode", "invalid"]

LONGEST_MESSAGE = 1000  # characters: a message travels in a header, and a request may hold names of megabytes


class Refusal(Exception):
    """code: of gRPC, which REST translates. message: for the client, without control characters."""

    def __init__(self, code: StatusCode, message: str):
        short = message if len(message) <= LONGEST_MESSAGE else message[:LONGEST_MESSAGE] + "..."
        self.code = code
        self.message = "".join(c if c.isprintable() else " " for c in short)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[type["Refusal"], tuple[StatusCode, str]]:
        """To be raised in another process."""
        return type(self), (self.code, self.message)


def invalid(message: str) -> Refusal:
    """The request's own fault."""
    return Refusal(StatusCode.INVALID_ARGUMENT, message)
