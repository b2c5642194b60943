"""TensorFlow Serving's gRPC interface: PredictionService and ModelService."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from .examples import Examples
from .models import Models
from .wire.messages import message
from .wire.refusal import Refusal, StatusCode

__all__ = ["Traffic", "add_services"]

PACKAGE = "tensorflow.serving"
Answer = Callable[[Any, float | None], Awaitable[Any]]
Handler = Callable[[bytes, grpc.aio.ServicerContext[bytes, bytes]], Awaitable[bytes]]


class Traffic:
    """The calls under way.

    A server of gRPC that stops cancels what it has read and not handed over. So calls are answered for a
    while longer, and then refused as those of a server that is gone, until none is left.
    """

    def __init__(self) -> None:
        self._under_way, self._refused, self._refusing = 0, 0, False

    def __enter__(self) -> None:
        if self._refusing:
            self._refused += 1
            raise Refusal(StatusCode.UNAVAILABLE, "the gateway is stopping; ask again")
        self._under_way += 1

    def __exit__(self, *raised: object) -> None:
        self._under_way -= 1

    async def drain(self, late_s: float, within_s: float) -> None:
        """Answer for `late_s` seconds what comes, then refuse it, until so long nothing came and nothing is
        under way; `within_s` at most."""
        await asyncio.sleep(late_s)
        self._refusing = True
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._quiet(late_s), within_s)

    async def _quiet(self, for_s: float) -> None:
        refused = -1
        while self._under_way or refused != self._refused:
            refused = self._refused
            await asyncio.sleep(for_s)


def add_services(server: grpc.aio.Server, models: Models, examples: Examples, traffic: Traffic) -> None:
    """What is not named here, such as HandleReloadConfigRequest, gRPC itself answers with UNIMPLEMENTED."""

    async def metadata(request: Any, _: float | None) -> Any:
        return await models.metadata(request)

    async def status(request: Any, _: float | None) -> Any:
        return await models.status(request)

    services: dict[str, dict[str, tuple[str, Answer]]] = {
        "PredictionService": {
            "Predict": ("PredictRequest", models.predict),
            "Classify": ("ClassificationRequest", examples.classify),
            "Regress": ("RegressionRequest", examples.regress),
            "MultiInference": ("MultiInferenceRequest", examples.multi_inference),
            "GetModelMetadata": ("GetModelMetadataRequest", metadata),
        },
        "ModelService": {"GetModelStatus": ("GetModelStatusRequest", status)},
    }
    for service, methods in services.items():
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(_handler(message(f"{PACKAGE}.{kind}"), answer, traffic))
            for name, (kind, answer) in methods.items()
        }
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(f"{PACKAGE}.{service}", handlers)]
        )


def _handler(kind: Any, answer: Answer, traffic: Traffic) -> Handler:
    """Bytes in and out: gRPC would log a stack for each request that cannot be parsed."""

    async def handle(body: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            with traffic:
                response = await answer(kind.FromString(body), context.time_remaining())
            told: bytes = response.SerializeToString()
            return told
        except Refusal as refusal:
            code, words = refusal.code, refusal.message
        except DecodeError:
            code, words = StatusCode.INTERNAL, f"the request is not a {kind.DESCRIPTOR.name}"
        except Exception as error:
            code, words = StatusCode.INTERNAL, f"the gateway failed: {type(error).__name__}"
            print(f"tfserving: {kind.DESCRIPTOR.name}: {error!r}", file=sys.stderr, flush=True)
        await context.abort(code, words)
        raise AssertionError("unreachable: abort raises")

    return handle
