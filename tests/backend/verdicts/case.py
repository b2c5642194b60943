"""One case of the table: a model, its configuration, requests, and what NVIDIA's backend does with them."""

from dataclasses import dataclass

import numpy as np
from onnx import helper

from tests.graphs import FLOAT, graph

REFUSED = "refused at load"
ENDS = "ends the server"
FAILS = "fails"  # a request
UNDEFINED = "undefined"  # answers with what was in memory


@dataclass(frozen=True)
class Either:
    """Which of these depends on the order in which requests come."""

    verdicts: tuple


@dataclass(frozen=True)
class SomeFail:
    """So many of the requests, by the order in which they come."""

    count: int


@dataclass(frozen=True)
class Ask:
    """One request; flags: s for START, e for END of its sequence."""

    arrays: dict[str, np.ndarray]
    outputs: tuple[str, ...] = ()
    sequence: int = 0
    flags: str = ""
    stream: bool = False  # over a gRPC stream, as decoupled models need


@dataclass(frozen=True)
class Differs:
    """What ours does instead; words of its line in docs/reference/backend.md, and the rule that finds it."""

    ours: object
    told: str
    rule: str = ""


@dataclass(frozen=True)
class Case:
    """nvidia: what NVIDIA's backend does, release 24.10: REFUSED, ENDS, UNDEFINED, SomeFail, or one entry for
        each request: its outputs as nested lists, or FAILS. If `counted`, how many the statistics then
        call successful and failed is the last.
    says: of ours, if it refuses: a pattern in its message, so that it refuses for that reason.
    joined: the requests come at the same time, into one batch.
    """

    name: str
    model: bytes
    config: str
    nvidia: object
    asks: tuple[Ask, ...] = ()
    says: str = ""
    differs: Differs | None = None
    counted: bool = False
    joined: bool = False


def ask(sequence=0, flags="", stream=False, outputs=(), **arrays) -> Ask:
    """Lists become FP32, lists of bytes BYTES; arrays stay what they are."""
    made = {}
    for name, values in arrays.items():
        array = np.array(values, object if _holds_bytes(values) else None)
        made[name] = array.astype(np.float32) if array.dtype in (np.int64, np.float64) else array
        if isinstance(values, np.ndarray):
            made[name] = values
    return Ask(made, tuple(outputs), sequence, flags, stream)


def _holds_bytes(values) -> bool:
    while isinstance(values, list) and values:
        values = values[0]
    return isinstance(values, bytes)


def unary(shape, out=None, op="Neg", kind=FLOAT, **attributes) -> bytes:
    """y = op(x)"""
    out = shape if out is None else out
    return graph([helper.make_node(op, ["x"], ["y"], **attributes)], [("x", kind, shape)], [("y", kind, out)])


def tensor(section, name, dims, kind="FP32", more="") -> str:
    return f'{section} {{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] {more} }}\n'


def config(x="1", y="1", batch=4, more="", kind="FP32") -> str:
    """A configuration of one input `x` and one output `y`."""
    return (
        f"max_batch_size: {batch}\n" + tensor("input", "x", x, kind) + tensor("output", "y", y, kind) + more
    )


def parameter(name, value) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n'


COMPANY = "dynamic_batching { max_queue_delay_microseconds: 500000 preferred_batch_size: [ 4 ] }\n"
