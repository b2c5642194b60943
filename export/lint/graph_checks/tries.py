"""Which dim of an output is the batch, where shape inference with open dims does not tell: two proofs.

With two batches and everything else alike, a first dim that stays the same is not the batch. Where even that
is not inferred, the names of open dims count, as far as they tell the batch from other axes.
"""

from onnx import ValueInfoProto

from export.lint.reading.graph import LintedGraph
from export.lint.reading.repository import Model
from export.lint.reading.sessions import BATCH

__all__ = ["BATCHES", "Tries", "symbols_differ"]

BATCHES = (BATCH, 11)
SIZES = (64, 256)  # of dims that are open in the config, too; each is tried until the first dim is known


class Tries:
    """What dims the outputs of a graph have for each of `BATCHES`. Asked at the first look.

    exact: no size is made up, as the config leaves none open.
    """

    def __init__(self, model: Model, graph: LintedGraph) -> None:
        self._model, self._graph = model, graph
        listed = {entry.name: entry for entry in model.config.input}
        self._asked: dict[int, list[dict[str, tuple[int, ...]]]] = {}
        self._dims: dict[str, tuple[int, ...]] = {}
        for name, tensor in graph.inputs.items():
            dims = tensor.dims[1:]
            if entry := listed.get(name):
                told = tuple(entry.reshape.shape if entry.HasField("reshape") else entry.dims)
                dims = tuple(theirs if ours == -1 else ours for ours, theirs in zip(dims, told, strict=False))
            self._dims[name] = dims
        self.exact = all(-1 not in dims for dims in self._dims.values())

    def of(self, name: str) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Of an output, for the first and the second batch; None where the first dim is not known."""
        for size in SIZES[:1] if self.exact else SIZES:
            if size not in self._asked:
                self._asked[size] = self._ask(size)
            few, many = (outputs.get(name, ()) for outputs in self._asked[size])
            if few and many and -1 not in (few[0], many[0]):
                return few, many
        return None

    def _ask(self, size: int) -> list[dict[str, tuple[int, ...]]]:
        return [
            self._model.sized(
                self._graph,
                {
                    name: (batch, *(size if dim == -1 else dim for dim in dims))
                    for name, dims in self._dims.items()
                },
            )
            for batch in BATCHES
        ]


def symbols_differ(graph: LintedGraph, name: str) -> str:
    """What the names of open dims say against the first dim of an output, or ""."""
    inputs = {value.name: _names(value) for value in graph.model.graph.input if value.name in graph.inputs}
    batch = {names[0] for names in inputs.values() if names} - {""}
    axes = {axis: source for source, names in inputs.items() for axis in names[1:] if axis}
    own = next((_names(value) for value in graph.model.graph.output if value.name == name), [])
    if not own or own[0] in batch:
        return ""
    if own[0] in axes:
        return f"is not the batch: it is {own[0]!r}, another dim of input {axes[own[0]]!r}"
    for place, axis in enumerate(own[1:], 1):
        if axis in batch and axis not in axes:
            return f"is not the batch: that is {axis!r}, its dim {place}"
    return ""


def _names(value: ValueInfoProto) -> list[str]:
    """Of dims that have one, "" for the others."""
    return [dim.dim_param for dim in value.type.tensor_type.shape.dim]
