"""TV315 and TV8xx: what NVIDIA's ONNX Runtime backend does and pip Triton's does not, or the reverse.

docs/reference/backend.md has a line for each, under "Where it differs". Nothing is wrong with the
model; notes fail nothing.
"""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2

from export.lint.reading.completion import UNKNOWN
from export.lint.reading.graph import LintedGraph
from export.lint.reading.repository import Model, Repository
from export.lint.rules import Finding

__all__ = ["check"]

ONCE = {"onnxruntime", "openvino", "pytorch", "tensorflow", "tensorrt"}
TEXT = model_config_pb2.TYPE_STRING


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV315 of any backend that answers once, and TV801, TV802 and TV804 of the ONNX Runtime backend."""
    if (
        model.config.model_transaction_policy.decoupled
        and model.backend in ONCE
        and model.completion != UNKNOWN
    ):
        yield model.finding(
            "TV315",
            f"the model is decoupled, and the {model.backend} backend sends one response for each request: "
            "HTTP and "
            "plain gRPC calls are refused, and a stream gives nothing more",
            "remove model_transaction_policy",
            "model_transaction_policy",
        )
    if model.backend == "onnxruntime":
        yield from _text(model)
        yield from _order(model)
        yield from _ragged(model)


def _text(model: Model) -> Iterator[Finding]:
    for kind, tensors in (("input", model.signature.inputs), ("output", model.signature.outputs)):
        names = [name for name, entry in (tensors or {}).items() if entry.data_type == TEXT]
        if names:
            yield model.finding(
                "TV801",
                f"{kind} {', '.join(map(repr, names))} is text: the container cuts each at its first NUL "
                "byte; pip "
                "Triton passes it whole, and takes UTF-8 only",
                "send UTF-8 without NUL bytes, or bytes as TYPE_UINT8",
                kind,
            )


def _order(model: Model) -> Iterator[Finding]:
    graph = next((graph for graph in model.graphs.values() if isinstance(graph, LintedGraph)), None)
    config = model.config
    if graph is None or (config.input and config.output) or config.HasField("sequence_batching"):
        return
    completed = [
        kind
        for kind, listed, tensors in (
            ("inputs", model.config.input, graph.inputs),
            ("outputs", model.config.output, graph.outputs),
        )
        if not listed and len(tensors) > 1
    ]
    if completed:
        yield model.finding(
            "TV802",
            f"auto-complete lists the {' and '.join(completed)}: in no certain order in the container, in "
            "the "
            "graph's order on pip Triton",
            "address tensors by name, or list them",
        )


def _ragged(model: Model) -> Iterator[Finding]:
    ragged = [entry.name for entry in model.config.input if entry.allow_ragged_batch]
    fields = [field for field in ("batch_input", "batch_output") if getattr(model.config, field)]
    if ragged or fields:
        yield model.finding(
            "TV804",
            f"{', '.join([*fields, *(f'the ragged input {name!r}' for name in ragged)])}: the container "
            "serves it, "
            "pip Triton's backend refuses it at load",
            "test it in the container",
            *((fields[0], 0) if fields else ("input",)),
        )
