"""What a graph means: does it batch, at which sizes does it run, what does it return."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime

from export.common.errors import OnnxFileError, SpecError
from export.common.wording import counted, said_by
from export.pipelines.onnx_files.batch_dim import BATCH, fixed_at_one
from export.pipelines.onnx_files.candidate import Candidate, FileRequest
from export.pipelines.onnx_files.spec import FileSpec, FileTensor
from export.pipelines.onnx_files.tensors import (
    FileGraphTensor,
    graph_inputs,
    graph_outputs,
    narrowed,
    sample_inputs,
)
from export.pipelines.serving.in_process import Answer, run, session_of
from export.pipelines.serving.sampling import (
    Input,
    Samples,
    find_samples,
    integers_in_words,
    read_samples,
    sizes_in_words,
)

__all__ = ["alone_in", "understood"]

DEFAULT_MAX_BATCH_SIZE = 8
TOGETHER = (2, 3, 4, 5, 6, 7, 8, 16, 32, 64)  # items that are tried where one does not run
BAKED = (
    "it runs with a batch of {}, and not with one item: their number is written into the graph, in a Reshape "
    "or a Loop for instance. Export it with an open batch (dynamic_shapes of torch.onnx.export, or "
    "dynamic_axes), and let the network take the number of items from its input (x.shape[0], or -1)"
)


def understood(
    candidate: Candidate,
    request: FileRequest,
    progress: Callable[[str], None],
) -> tuple[FileSpec, Samples, list[Answer]]:
    """The spec that the graph means, samples that it runs with, and their answers alone.

    Raises `OnnxFileError` when the graph is not what the request asks for, and `SpecError` when it runs with
    no samples that were tried, or not with those given.
    """
    inputs = graph_inputs(candidate.model)
    if not inputs:
        raise OnnxFileError("it has no inputs: all of them have initializers, so that it is a constant")
    left_out = len(candidate.model.graph.input) - len(inputs)
    if left_out:
        candidate.notes.append(
            f"not served: {counted(left_out, 'input')} with an initializer, which gives the value"
        )
    session = session_of(candidate.path)
    wants_batches = request.max_batch_size != 0
    batches = wants_batches and all(tensor.open_batch for tensor in inputs)
    samples, alone = _sampled(candidate, session, request, inputs, batches, progress)
    if batches and (problem := _no_batch(session, samples.items[0])):
        if request.max_batch_size or request.batch:
            raise OnnxFileError(
                f"it does not batch: {problem}. --max-batch-size 0 publishes it without batching"
            )
        candidate.notes.append(f"it does not batch: {problem}; it is published without")
        batches = False
        samples, alone = _sampled(candidate, session, request, inputs, batches, progress)
    elif request.max_batch_size and not batches:
        raise OnnxFileError(
            f"--max-batch-size {request.max_batch_size}: the first dim of {_fixed(inputs)} is fixed"
            + ("; --batch opens it where that is possible" if fixed_at_one(candidate.model) else "")
        )
    elif wants_batches and not batches:
        hint = (
            "its batch is fixed at 1, so that it is published without batching; --batch opens it where the "
            "graph allows that"
            if fixed_at_one(candidate.model)
            else f"the first dim of {_fixed(inputs)} is fixed, so that it is published without batching"
        )
        candidate.notes.append(hint)
    wanted = sample_inputs(candidate.model, inputs, int(batches))
    if samples.refused and not request.samples:
        candidate.notes.append(sizes_in_words(samples, wanted))
    if tried := integers_in_words(samples, wanted):
        candidate.notes.append(tried)
    outputs = _outputs(candidate, batches, alone)
    most = request.max_batch_size or DEFAULT_MAX_BATCH_SIZE
    inputs = narrowed(inputs, request.dims, int(batches))
    spec = FileSpec(
        name=request.name,
        inputs=tuple(FileTensor.of(tensor, int(batches)) for tensor in inputs),
        outputs=tuple(FileTensor.of(tensor, int(batches)) for tensor in outputs),
        max_batch_size=most if batches else 0,
    )
    return spec, samples, alone


def _fixed(inputs: list[FileGraphTensor]) -> str:
    return ", ".join(f"input {tensor}" for tensor in inputs if not tensor.open_batch)


def _sampled(
    candidate: Candidate,
    session: onnxruntime.InferenceSession,
    request: FileRequest,
    inputs: list[FileGraphTensor],
    batches: bool,
    progress: Callable[[str], None],
) -> tuple[Samples, list[Answer]]:
    """Samples, and the answers of the candidate to each alone, without batch."""
    skip = int(batches)
    wanted = sample_inputs(candidate.model, narrowed(inputs, request.dims, skip), skip)

    def ask(item: Answer) -> Answer:
        return alone_in(session, item, batches)

    given = None
    if request.items:
        given = Samples(list(request.items), ["those of its base"])
    elif request.samples:
        given = read_samples(request.samples, wanted)
    try:
        samples = given or find_samples(ask, wanted, progress=progress)
        return samples, [ask(item) for item in samples.items]
    except Exception as error:  # of ONNX Runtime, or that no samples were found
        if batches and (count := _only_together(session, wanted, given)):
            raise OnnxFileError(BAKED.format(count)) from error
        if given is None:
            raise
        raise SpecError(f"it does not run with {given.sizes[0]}: {said_by(error)}") from error


def _only_together(
    session: onnxruntime.InferenceSession, inputs: list[Input], given: Samples | None
) -> int | None:
    """How many items run as a batch, of a graph that does not run with one; None if no number is found."""
    for count in TOGETHER:

        def ask(item: Answer, count: int = count) -> Answer:
            return run(session, {name: np.stack([array] * count) for name, array in item.items()})

        try:
            _ = [ask(item) for item in given.items] if given else find_samples(ask, inputs)
        except Exception:  # of ONNX Runtime, or that no samples were found
            continue
        return count
    return None


def alone_in(session: onnxruntime.InferenceSession, item: Answer, batches: bool) -> Answer:
    """The answer to one item, whose arrays have no batch; raises what ONNX Runtime raises.

    batches: the item is asked as a batch of 1, and so the answer has that first dim, too.
    """
    return run(session, {name: array[None] for name, array in item.items()} if batches else item)


def _no_batch(session: onnxruntime.InferenceSession, item: Answer) -> str:
    """Why two of an item are no batch; "" if they are."""
    try:
        answer = run(session, {name: np.stack([array, array]) for name, array in item.items()})
    except Exception as error:  # of ONNX Runtime
        return f"a batch of 2 fails: {said_by(error)[:400]}"
    wrong = [name for name, array in answer.items() if array.ndim == 0 or len(array) != 2]
    return f"the first dim of output {wrong[0]} is not that of the inputs" if wrong else ""


def _outputs(candidate: Candidate, batches: bool, alone: list[Answer]) -> list[FileGraphTensor]:
    """Outputs as they are; what the file declares otherwise, or leaves to ONNX Runtime, is written into it.

    NVIDIA's backend takes an output's dims only as its ONNX Runtime has them, so that the file must say them.
    """
    declared = graph_outputs(candidate.model)
    seen = [_as_seen(tensor, [answer[tensor.name].shape for answer in alone], batches) for tensor in declared]
    if wrong := [one.name for one, other in zip(declared, seen, strict=True) if not _alike(one, other)]:
        candidate.changed(
            _declared(candidate.model, seen),
            f"the dims of output {', '.join(wrong)} are declared as they are now",
        )
    known = {output.name: output.shape for output in session_of(candidate.path).get_outputs()}
    found = [_narrowed(tensor, known[tensor.name]) for tensor in seen]
    if any(not _alike(one, other) for one, other in zip(seen, found, strict=True)):
        candidate.changed(_declared(candidate.model, found), "dims that ONNX Runtime infers are declared now")
    return found


def _as_seen(tensor: FileGraphTensor, shapes: list[tuple[int, ...]], batches: bool) -> FileGraphTensor:
    """What is declared, open wherever a run gave another size."""
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        raise OnnxFileError(f"output {tensor.name} has {sorted(ranks)} dims, with each sample another number")
    rank, dims = ranks.pop(), tensor.dims
    if dims is None or len(dims) != rank:
        dims = tuple(f"{tensor.name}_{axis}" for axis in range(rank))
    sizes = [(None, *shape[1:]) if batches else shape for shape in shapes]  # None: any number of items
    dims = tuple(
        f"{tensor.name}_{axis}" if isinstance(dim, int) and any(size[axis] != dim for size in sizes) else dim
        for axis, dim in enumerate(dims)
    )
    if batches and dims[0] == f"{tensor.name}_0":
        dims = (BATCH, *dims[1:])
    return FileGraphTensor(tensor.name, tensor.dtype, dims)


def _narrowed(tensor: FileGraphTensor, known: list[int | str | None]) -> FileGraphTensor:
    """With the numbers that ONNX Runtime has for open dims."""
    if tensor.dims is None or len(known) != len(tensor.dims):
        return tensor
    dims = [
        size if isinstance(dim, str) and isinstance(size, int) and size > 0 else dim
        for dim, size in zip(tensor.dims, known, strict=True)
    ]
    return FileGraphTensor(tensor.name, tensor.dtype, tuple(dims))


def _alike(one: FileGraphTensor, other: FileGraphTensor) -> bool:
    """The same dims, whatever the open ones are called."""

    def numbers(tensor: FileGraphTensor) -> list[int | None] | None:
        return None if tensor.dims is None else [dim if isinstance(dim, int) else None for dim in tensor.dims]

    return numbers(one) == numbers(other)


def _declared(model: onnx.ModelProto, outputs: list[FileGraphTensor]) -> onnx.ModelProto:
    """A copy with these dims of outputs."""
    mended = onnx.ModelProto()
    mended.CopyFrom(model)
    for value, tensor in zip(mended.graph.output, outputs, strict=True):
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, list(tensor.dims or ())))
    return mended
