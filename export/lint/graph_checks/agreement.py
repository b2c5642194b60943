"""TV2xx that hold the config against the graph, as the ONNX Runtime backend does when it loads a model."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from export.common.release import Release
from export.lint.comparison import at_most, data_type_name, loosely_equal, near
from export.lint.reading.graph import LintedGraph, LintedTensor
from export.lint.reading.release_schema import lacking
from export.lint.reading.repository import Model, Repository
from export.lint.rules import WARNING, Finding

__all__ = ["check"]

Dims = Sequence[int]


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV201 to TV206, TV210 to TV212, TV214 and TV219, of each served graph that could be read."""
    for graph in model.graphs.values():
        if isinstance(graph, LintedGraph):
            yield from _versions(model, graph, repository.releases)
            yield from _unsupported(model, graph)
            yield from _batching(model, graph)
            known = {**graph.inputs, **graph.overridable}
            yield from _tensors(model, "input", model.config.input, known, graph)
            yield from _tensors(model, "output", model.config.output, graph.outputs, graph)
            yield from _zero_dims(model, graph)
            optional = list(_optional(model, graph))
            yield from optional
            if not optional:
                yield from _unfed(model, graph)


def _zero_dims(model: Model, graph: LintedGraph) -> Iterator[Finding]:
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors.values():
            if 0 in tensor.dims:
                yield model.finding(
                    "TV203",
                    f"{kind} {tensor.name!r} of the graph has a dim of 0 ({tensor.shape}), which no config "
                    "may have",
                    "export it with an open dim there",
                    file=graph.path,
                )


def _optional(model: Model, graph: LintedGraph) -> Iterator[Finding]:
    """NVIDIA's backend counts the inputs that are not optional, and the graph's that have no default."""
    for index, entry in enumerate(model.config.input):
        if entry.name in graph.inputs and entry.optional and not model.signature.max_batch_size:
            yield model.finding(
                "TV219",
                f"input {entry.name!r} is optional in the config, and the graph has no default for it",
                "remove optional",
                "input",
                index,
                "optional",
            )
        elif entry.name in graph.overridable and not entry.optional:
            yield model.finding(
                "TV219",
                f"input {entry.name!r} has a default in the graph, and the config asks for it in every "
                "request",
                "remove it"
                if model.signature.max_batch_size
                else "write optional: true, or remove it to keep to the default",
                "input",
                index,
            )


def _versions(model: Model, graph: LintedGraph, releases: Sequence[Release]) -> Iterator[Finding]:
    if refusing := [release for release in releases if graph.opset > release.max_opset]:
        limits = {release: release.max_opset for release in refusing}
        yield model.finding(
            "TV210",
            f"the graph has opset {graph.opset}; {at_most(limits)}",
            f"export with opset {min(limits.values())} or lower, or convert it with onnx.version_converter",
            file=graph.path,
            releases=[release.name for release in refusing],
        )
    if refusing := [release for release in releases if graph.ir_version > release.max_ir_version]:
        limits = {release: release.max_ir_version for release in refusing}
        yield model.finding(
            "TV211",
            f"the graph has IR version {graph.ir_version}; {at_most(limits)}",
            f"set ir_version = {min(limits.values())} on the loaded model and save it again",
            file=graph.path,
            releases=[release.name for release in refusing],
        )


def _unsupported(model: Model, graph: LintedGraph) -> Iterator[Finding]:
    listed = {entry.name for entry in model.config.output}
    answered = {name: tensor for name, tensor in graph.outputs.items() if not listed or name in listed}
    for kind, tensors in (("input", graph.inputs), ("output", answered)):
        for tensor in tensors.values():
            if tensor.data_type == "TYPE_BF16" and (without := lacking("tensors of BF16", model.releases)):
                yield model.finding(
                    "TV212",
                    f"{kind} {tensor.name!r} of the graph is of BF16, which the ONNX Runtime backend of "
                    f"{', '.join(without)} does not pass on",
                    "cast it in the graph",
                    file=graph.path,
                    releases=without,
                )
            if not tensor.supported:
                yield model.finding(
                    "TV212",
                    f"{kind} {tensor.name!r} of the graph is a {tensor.data_type}, which the ONNX Runtime "
                    "backend does not pass on",
                    "export it as a tensor of a type that Triton has (for scikit-learn: zipmap=False), "
                    "or cast it in the graph",
                    file=graph.path,
                )


def _batching(model: Model, graph: LintedGraph) -> Iterator[Finding]:
    """Tensors that the config leaves to auto-complete: they all must have an open batch dimension."""
    batch = model.signature.max_batch_size or 0
    completed = not ((model.config.input or model.config.batch_input) and model.config.output)
    if batch <= 0 or not completed:
        return
    listed = {entry.name for entry in (*model.config.input, *model.config.output)}
    for kind, tensors in (("input", graph.inputs), ("output", graph.outputs)):
        for tensor in tensors.values():
            if tensor.supported and tensor.name not in listed and (not tensor.dims or tensor.dims[0] != -1):
                yield _fixed_batch(model, kind, tensor, batch, ("max_batch_size",))


def _tensors(
    model: Model, kind: str, entries: Iterable[Any], tensors: dict[str, LintedTensor], graph: LintedGraph
) -> Iterator[Finding]:
    reshaped_by_batch = {name for entry in model.config.batch_output for name in entry.target_name}
    for index, entry in enumerate(entries):
        where = (kind, index)
        tensor = tensors.get(entry.name)
        if tensor is None:
            yield model.finding(
                "TV205",
                f"the graph has no {kind} {entry.name!r}; it has {', '.join(map(repr, tensors)) or 'none'}",
                near(entry.name, tensors) or "write a name of the graph",
                *where,
                "name",
            )
            continue
        if not tensor.supported:
            continue
        data_type = data_type_name(entry.data_type)
        if entry.data_type and data_type != tensor.data_type:
            yield model.finding(
                "TV204",
                f"{kind} {entry.name!r} is {data_type} in the config and {tensor.data_type} in the graph",
                f"write data_type: {tensor.data_type}",
                *where,
                "data_type",
            )
        if getattr(entry, "allow_ragged_batch", False):
            if tensor.dims != (-1,):
                yield model.finding(
                    "TV203",
                    f"a ragged {kind} is one open dim in the graph; {entry.name!r} has {tensor.shape}",
                    "export it flat, or remove allow_ragged_batch",
                    *where,
                )
        elif entry.name not in reshaped_by_batch and entry.dims:
            yield from _dims(model, kind, entry, tensor, where, graph)


def _dims(
    model: Model, kind: str, entry: Any, tensor: LintedTensor, where: tuple[Any, ...], graph: LintedGraph
) -> Iterator[Finding]:
    dims = tuple(entry.reshape.shape if entry.HasField("reshape") else entry.dims)
    batch = model.signature.max_batch_size or 0
    place = (*where, "reshape") if entry.HasField("reshape") else (*where, "dims")
    if any(dim < 1 and dim != -1 for dim in dims) or 0 in tensor.dims:
        return  # TV209 has said so, or a dim of 0 has been told
    if not tensor.dims:
        if any(dim != 1 for dim in dims) and (tensor.shaped or not graph.session.unknown):
            yield model.finding(
                "TV203",
                f"{kind} {entry.name!r} is a scalar in the graph and has dims {list(dims)} in the config"
                if tensor.shaped
                else f"not even the number of dims of {kind} {entry.name!r} follows from the graph: "
                "NVIDIA's backend "
                f"takes it for a scalar, and the config has dims {list(dims)}",
                "write dims: [ 1 ]" if tensor.shaped else "declare the shape in the graph",
                *place,
            )
        return
    if batch > 0 and tensor.dims[0] != -1:
        yield _fixed_batch(model, kind, tensor, batch, place)
        return
    expected = tensor.dims[1:] if batch > 0 else tensor.dims
    if _agree(kind, dims, expected):
        return
    told = f"max_batch_size {batch}"
    if batch and not model.config.max_batch_size:
        told += ", which auto-complete gives this graph,"
    shape = f"{kind} {entry.name!r} has dims {list(dims)} in the config, and {tensor.shape} in the graph"
    if batch > 0 and len(dims) == len(tensor.dims) and loosely_equal(dims[1:], expected):
        yield model.finding(
            "TV202",
            f"{shape}: with {told} dims leave the batch out",
            f"write dims: {list(dims[1:])}",
            *place,
        )
    elif not batch and len(dims) == len(tensor.dims) - 1 and loosely_equal(dims, tensor.dims[1:]):
        yield model.finding(
            "TV202",
            f"{shape}: with max_batch_size 0 dims are the whole shape",
            f"write dims: {list(tensor.dims)}"
            + (f", or set max_batch_size and keep {list(dims)}" if tensor.dims[0] == -1 else ""),
            *place,
        )
    elif kind == "output" and loosely_equal(dims, expected) and not _opens(dims, graph, tensor, batch):
        declared = graph.declared[tensor.name]
        if graph.session.unknown:
            why = f" (as it declares them: {graph.session.unknown})"
        elif declared.dims != tensor.dims:
            why = f", as ONNX Runtime makes of {declared.shape if declared.shaped else 'no shape at all'}"
        else:
            why = ""
        yield model.finding(
            "TV214",
            f"{shape}{why}: NVIDIA's backend takes the dims of outputs only as ONNX Runtime has them",
            f"write dims: {list(expected)}"
            + ("" if -1 not in expected else ", or declare the size in the graph"),
            *place,
            severity=WARNING if graph.session.unknown else None,
        )
    else:
        yield model.finding(
            "TV203",
            shape + (" (the first is the batch)" if batch > 0 else ""),
            f"write dims: {list(expected) or [1]}",
            *place,
        )


def _opens(dims: Dims, graph: LintedGraph, tensor: LintedTensor, batch: int) -> bool:
    """Do the dims leave open what the graph itself declares a size for?"""
    declared = graph.declared[tensor.name].dims[1 if batch > 0 else 0 :]
    return len(declared) == len(dims) and any(
        ours == -1 and theirs != -1 for ours, theirs in zip(dims, declared, strict=True)
    )


def _fixed_batch(
    model: Model, kind: str, tensor: LintedTensor, batch: int, where: tuple[Any, ...]
) -> Finding:
    found = f"is fixed at {tensor.dims[0]}" if tensor.dims else "is missing"
    return model.finding(
        "TV201",
        f"max_batch_size is {batch}, but the batch dimension of {kind} {tensor.name!r} {found} in the graph "
        f"({tensor.shape})",
        "export it with an open batch dimension, "
        f"or set max_batch_size: 0 and dims: {list(tensor.dims) or [1]}",
        *where,
    )


def _unfed(model: Model, graph: LintedGraph) -> Iterator[Finding]:
    config = model.config
    if not config.input:
        return
    fed = {entry.name for entry in config.input}
    fed |= {entry.name for entry in config.sequence_batching.control_input}
    fed |= {entry.input_name for entry in config.sequence_batching.state}
    fed |= {name for entry in config.batch_input for name in entry.target_name}
    misnamed = [name for name in fed if name not in graph.inputs and name not in graph.overridable]
    missing = [tensor for name, tensor in graph.inputs.items() if name not in fed]
    targets = sum(len(set(entry.target_name)) for entry in config.batch_input)
    if not missing and not misnamed and targets > len(config.batch_input):
        yield model.finding(
            "TV206",
            "NVIDIA's backend counts an input for each batch_input, of which there are "
            f"{len(config.batch_input)} "
            f"with {targets} targets",
            "write a batch_input for each target",
            "batch_input",
        )
    if len(missing) <= len(misnamed):  # each is one of those under a wrong name, which has been said
        return
    for tensor in missing:
        dims = list(tensor.dims[1:] if model.signature.max_batch_size else tensor.dims) or [1]
        yield model.finding(
            "TV206",
            f"the graph's input {tensor.name!r} ({tensor.data_type} {tensor.shape}) is not in the config",
            f"add an input: name {tensor.name!r}, data_type: {tensor.data_type}, dims: {dims}",
            "input",
        )


def _agree(kind: str, dims: Dims, graph_dims: Dims) -> bool:
    """As NVIDIA's backend compares: outputs exactly, inputs where the graph is fixed."""
    return len(dims) == len(graph_dims) and all(
        ours == theirs or (kind == "input" and theirs == -1)
        for ours, theirs in zip(dims, graph_dims, strict=True)
    )
