"""TV217 to TV218: tensors of a batching model that do not keep the batch as their first dimension."""

from collections.abc import Iterator
from typing import Any

from onnx import GraphProto

from export.lint.graph_checks.tries import BATCHES, Tries, symbols_differ
from export.lint.reading.graph import LintedGraph, LintedTensor
from export.lint.reading.repository import Model, Repository
from export.lint.reading.sessions import BATCH
from export.lint.rules import WARNING, Finding

__all__ = ["check"]

# Operators whose output's first size is a matter of the values, and those that pass it on from these inputs.
COUNTING = {"NonMaxSuppression", "NonZero", "Unique", "Compress"}
PASSES_ON = {
    "Cast": (0,), "Clip": (0,), "Concat": None, "Gather": (0, 1), "GatherND": (0, 1), "Identity": (0,),
    "Mul": (0, 1), "Reshape": (0,), "Sigmoid": (0,), "Slice": (0,), "Softmax": (0,), "Squeeze": (0,), "Sub":
    (0, 1), "Add": (0, 1), "Div": (0, 1), "Transpose": (0,), "Unsqueeze": (0,), "Split": (0,),
}  # fmt: skip
MAX_STEPS = 10_000


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV217 where max_batch_size is above 1, TV218 from 1 on; TV218 not beside ragged batches."""
    batch = model.signature.max_batch_size or 0
    if batch < 1 or model.backend != "onnxruntime":
        return
    ragged = model.config.batch_input or any(entry.allow_ragged_batch for entry in model.config.input)
    for graph in model.graphs.values():
        if isinstance(graph, LintedGraph):
            if batch > 1:
                yield from _scalars(model, graph, batch)
            if not ragged:
                yield from _outputs(model, graph)


def _scalars(model: Model, graph: LintedGraph, batch: int) -> Iterator[Finding]:
    """Milder where only a client's own batch holds several items."""
    config = model.config
    joined = config.HasField("dynamic_batching") or config.HasField("sequence_batching")
    for kind, entries, tensors in _listed(model, graph):
        for index, entry in enumerate(entries):
            tensor = tensors.get(entry.name)
            if tensor is not None and tensor.supported and tensor.shaped and not tensor.dims:
                what = (
                    "of a batch every request is answered with the first one's"
                    if kind == "input"
                    else "it is not there once for each item, so requests in one batch fail"
                )
                yield model.finding(
                    "TV217",
                    f"{kind} {entry.name!r} is a scalar in the graph, and max_batch_size is {batch}: {what}",
                    "give it the batch as its dimension in the graph, [N], and dims: [ 1 ] with an empty "
                    "reshape; "
                    "or set max_batch_size: 1",
                    kind,
                    index,
                    severity=None if joined else WARNING,
                )


def _outputs(model: Model, graph: LintedGraph) -> Iterator[Finding]:
    skipped = {name for entry in model.config.batch_output for name in entry.target_name}
    skipped |= {entry.output_name for entry in model.config.sequence_batching.state}
    tries = Tries(model, graph)
    for _, entries, tensors in _listed(model, graph)[1:]:
        for index, entry in enumerate(entries):
            tensor = tensors.get(entry.name)
            if tensor is None or entry.name in skipped or tensor.dims[:1] != (-1,):
                continue
            first = graph.session.with_batch.get(entry.name, ())[:1]
            severity, padded = None, ""
            if first and first[0] != -1:
                problem = (
                    "" if first[0] == BATCH else f"is not the batch: a batch of {BATCH} gives {first[0]}"
                )
            elif dims := tries.of(entry.name):
                problem = _tried(*dims, tries.exact)
            else:
                problem = symbols_differ(graph, entry.name)
                if not problem and first and (operator := _counts(graph.model.graph, entry.name)):
                    severity, padded = WARNING, ", padded"
                    problem = f"comes from {operator}, so it is a number of things found, hardly the batch"
            if problem:
                yield model.finding(
                    "TV218",
                    f"the first dim of output {entry.name!r} {problem}. NVIDIA's backend cuts it at the "
                    "batch, or fails where it is less",
                    f"give it the batch as its first dim in the graph{padded}, or set max_batch_size: 0",
                    "output",
                    index,
                    severity=severity,
                )


def _tried(few: tuple[int, ...], many: tuple[int, ...], exact: bool) -> str:
    """What dims for each of two batches prove, or "". exact: requests have no others."""
    if few[0] == many[0]:
        places = [place for place, sizes in enumerate(zip(few, many, strict=False)) if sizes == BATCHES]
        where = f", which is its dim {places[0]}" if places else ""
        return f"is not the batch{where}: it is {few[0]} for batches of {BATCHES[0]} and {BATCHES[1]}"
    if exact and few[0] != BATCHES[0]:
        return f"is not the batch: a batch of {BATCHES[0]} gives {few[0]}"
    return ""


def _listed(model: Model, graph: LintedGraph) -> tuple[tuple[str, list[Any], dict[str, LintedTensor]], ...]:
    """What the config lists, or, where it lists nothing, what auto-complete will."""
    return (
        ("input", list(model.config.input), graph.inputs),
        (
            "output",
            list(model.config.output) or list((model.signature.outputs or {}).values()),
            graph.outputs,
        ),
    )


def _counts(graph: GraphProto, name: str) -> str:
    """The operator that a tensor's first size comes from, if that is a count of what was found; else ""."""
    makers = {output: node for node in graph.node for output in node.output}
    waiting = [name]
    seen: set[str] = set()
    while waiting and len(seen) < MAX_STEPS:
        current = waiting.pop()
        node = makers.get(current)
        if node is None or current in seen:
            continue
        seen.add(current)
        if node.op_type in COUNTING:
            return node.op_type
        if node.op_type in PASSES_ON:
            positions = PASSES_ON[node.op_type]
            waiting += [
                source for index, source in enumerate(node.input) if positions is None or index in positions
            ]
    return ""
