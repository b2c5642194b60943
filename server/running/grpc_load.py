"""Ask tritonserver to load a model, over gRPC.

A load over HTTP occupies one of tritonserver's HTTP threads until it has ended, and all connections of that
thread wait with it, whatever they ask for: 100 of 100 kept-alive ones in a trial. Over gRPC nobody waits.
"""

import importlib.util
from collections.abc import Mapping

from ..errors import NoAnswerError, ServerError
from .triton_log import in_operators_words

__all__ = ["can_load_over_grpc", "load_over_grpc"]

METHOD = "/inference.GRPCInferenceService/RepositoryModelLoad"
MODEL_NAME, PARAMETERS = b"\x12", b"\x1a"  # fields 2 and 3 of RepositoryModelLoadRequest; the answer is empty
KEY, VALUE, STRING = (
    b"\x0a",
    b"\x12",
    b"\x1a",
)  # of an entry of a map; string_param of ModelRepositoryParameter
CHANNEL = (("grpc.enable_http_proxy", 0),)


def can_load_over_grpc() -> bool:
    """Whether grpcio is installed."""
    return importlib.util.find_spec("grpc") is not None


def load_over_grpc(
    url: str, metadata: Mapping[str, str], model: str, timeout_s: float, config: str = ""
) -> None:
    """config: JSON in place of the model's own.

    Raises `ServerError` with tritonserver's reason, or `NoAnswerError`.
    """
    import grpc  # only when something is loaded: it takes a while

    message = _field(MODEL_NAME, model.encode())
    if config:
        value = _field(STRING, config.encode())
        message += _field(PARAMETERS, _field(KEY, b"config") + _field(VALUE, value))
    with grpc.insecure_channel(url, options=CHANNEL) as channel:
        call = channel.unary_unary(METHOD)  # bytes in, bytes out
        try:
            call(message, timeout=timeout_s, metadata=tuple(metadata.items()))
        except grpc.RpcError as error:
            lost = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
            kind = NoAnswerError if error.code() in lost else ServerError
            raise kind(in_operators_words(error.details() or str(error.code()))) from error


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """As protobuf writes lengths: seven bits a byte, the lowest first."""
    rest, low = divmod(number, 0x80)
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
