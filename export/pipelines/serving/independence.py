"""Does a served model answer an item in a batch as it does alone? Found out from outside, by asking it.

Nothing is needed but its answers: each item alone, in batches that one request makes, and at once with other
requests, which Triton puts into batches itself. Sequences are run one after the other, then interleaved.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from export.common.errors import ServingError
from export.common.wording import counted
from export.graphs.checks.batching import check_batching
from export.graphs.checks.tolerance import difference, exceeds, tolerances
from export.pipelines.serving.connections import Answer, InferRequest
from export.pipelines.serving.remote import RemoteModel
from export.pipelines.serving.sampling import Input, Samples, find_samples, integers_in_words

__all__ = ["BatchingVerdict", "OutputVerdict", "check_independence", "inputs_of"]

Item = dict[str, NDArray[Any]]

MAX_SHAPE = "max_shape"  # a parameter of config.pbtxt: bounds of open dims, "INPUT=d1,d2;..."
ROUNDS = (8, 16, 32, 64, 128)  # requests at once, until some shared an execution; two rounds at least
LARGEST_REQUEST_BYTES = 32 * 2**20
STEPS = (6, 1, 3, 5, 2, 4)  # requests of each sequence
COPIES = (1, 2, 4, 8, 8)  # of these sequences at once, until some shared an execution; two rounds at least


@dataclass
class OutputVerdict:
    """depends: is an item's answer another beside others? said: the worst that was seen, in words;
    largest_difference: of that, or else of what requests at once differ by."""

    name: str
    depends: bool = False
    largest_difference: float = 0.0
    said: str = ""


@dataclass
class BatchingVerdict:
    """kind: "independent", "depends", or "not batched" where requests never meet. failed: requests that the
    model answers alone and not in a batch. most_items: of one execution, of an ensemble's members
    in its place, when single items were sent at once; 0 where the server does not tell."""

    model: str
    version: str
    server: str
    max_batch_size: int
    items: int
    sizes: list[str]
    kind: str = "independent"
    outputs: list[OutputVerdict] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    requests_at_once: int = 0
    most_items: int = 0
    notes: list[str] = field(default_factory=list)


def inputs_of(model: RemoteModel) -> tuple[list[Input], dict[str, int]]:
    """What an item consists of, and the bounds of its open dims. Optional inputs are left out."""
    inputs, limits = [], {}
    bounds = _bounds(model.config.parameters[MAX_SHAPE].string_value) if _bounded(model) else {}
    for tensor in model.inputs:
        if tensor.optional:
            continue
        dims = tuple(f"{tensor.name}[{axis}]" if dim == -1 else dim for axis, dim in enumerate(tensor.dims))
        inputs.append(Input(tensor.name, tensor.dtype, dims))
        for dim, most in zip(dims, bounds.get(tensor.name, ()), strict=False):
            if isinstance(dim, str) and most > 0:
                limits[dim] = most
    return inputs, limits


def check_independence(
    model: RemoteModel,
    samples: Samples | None = None,
    tolerance: float | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> BatchingVerdict:
    """Ask `model` some hundred times. samples: None makes random ones; tolerance: as in `check_batching`.

    Raises `ServingError` or `SpecError` when it cannot be found out.
    """
    if model.config.model_transaction_policy.decoupled:
        raise ServingError(f"{model.name} is decoupled: it may answer a request any number of times")
    batches = model.batches
    sequences = model.config.HasField("sequence_batching")
    inputs, limits = inputs_of(model)
    if samples is None:
        progress("finding samples")
        samples = find_samples(lambda item: model.ask(_alone(item, batches, sequences)), inputs, limits)
    tried = integers_in_words(samples, inputs)
    verdict = BatchingVerdict(
        model.name,
        model.version,
        model.server,
        model.config.max_batch_size,
        len(samples.items),
        [size for size in samples.sizes if size],
        outputs=[OutputVerdict(tensor.name) for tensor in model.outputs],
        notes=[tried] if tried else [],
    )
    if model.config.response_cache.enable:
        verdict.notes.append("it has a response cache, which may answer copies of a request")
    if model.config.max_batch_size < 2:
        verdict.kind = "not batched"
        verdict.notes.append(f"max_batch_size is {model.config.max_batch_size}: requests never share a batch")
        return verdict
    if sequences:
        _sequences(model, samples.items, tolerance, verdict, progress)
    else:
        _batches(model, samples.items, tolerance, verdict, progress, samples.integers(inputs))
        _at_once(model, samples.items, tolerance, verdict, progress)
    if verdict.failed or any(output.depends for output in verdict.outputs):
        verdict.kind = "depends"
    return verdict


def _batches(
    model: RemoteModel,
    items: list[Item],
    tolerance: float | None,
    verdict: BatchingVerdict,
    progress: Callable[[str], None],
    integers: Mapping[str, Sequence[int]],
) -> None:
    """Batches that one request makes."""
    one = max(sum(array.nbytes for array in item.values()) for item in items)
    most = max(2, min(model.config.max_batch_size, LARGEST_REQUEST_BYTES // max(1, one)))
    if most < model.config.max_batch_size:
        verdict.notes.append(f"batches of up to {most} were asked, as larger ones are above 32 MiB")
    findings = check_batching(
        lambda arrays: model.ask(InferRequest(arrays)), items, most, tolerance, progress, integers
    )
    for finding in findings:
        if finding.kind == "failed":
            verdict.failed.append(str(finding))
        else:
            _note(verdict, finding.output, finding.difference, str(finding))


def _at_once(
    model: RemoteModel,
    items: list[Item],
    tolerance: float | None,
    verdict: BatchingVerdict,
    progress: Callable[[str], None],
) -> None:
    """Single items at once: Triton batches those that wait together."""
    alone = [model.ask(_alone(item, True, False)) for item in items]
    before, members_before = model.executions(), [member.executions() for member in model.members]
    for turn, count in enumerate(ROUNDS):
        progress(f"{counted(count, 'request')} at once")
        chosen = [(turn + at) % len(items) for at in range(count)]
        answers = model.ask_all([_alone(items[at], True, False) for at in chosen])
        verdict.requests_at_once += count
        for at, answer in zip(chosen, answers, strict=True):
            _compare(answer, alone[at], tolerance, verdict, f"beside {counted(count - 1, 'request')} at once")
        model.executions(before.requests + verdict.requests_at_once)  # by then they count these
        verdict.most_items = max(
            max(member.executions().since(then).sizes, default=0)
            for member, then in zip(model.members, members_before, strict=True)
        )
        if turn and verdict.most_items > 1:
            break
    if verdict.most_items < 2:
        verdict.notes.append(_not_shared(model))


def _not_shared(model: RemoteModel) -> str:
    batching = [member.name for member in model.members if member.config.HasField("dynamic_batching")]
    if not model.config.HasField("ensemble_scheduling"):
        return "no two requests shared an execution" + ("" if batching else ": it has no dynamic_batching")
    names = ", ".join(member.name for member in model.members)
    return f"no two requests shared an execution of its members ({names}), " + (
        f"though dynamic_batching is on for {', '.join(batching)}"
        if batching
        else "of which none has dynamic_batching"
    )


def _sequences(
    model: RemoteModel,
    items: list[Item],
    tolerance: float | None,
    verdict: BatchingVerdict,
    progress: Callable[[str], None],
) -> None:
    """The same sequences one after the other, then a step of all of them at once."""
    first = secrets.randbits(31) << 16
    span = max(STEPS)

    def request(number: int, step: int, identifier: int) -> InferRequest:
        item = items[(number * span + step) % len(items)]
        return InferRequest(
            {name: array[None] for name, array in item.items()},
            sequence=first + identifier,
            start=step == 0,
            end=step == STEPS[number] - 1,
        )

    progress("each sequence alone")
    alone = [
        [model.ask(request(number, step, number + 1)) for step in range(length)]
        for number, length in enumerate(STEPS)
    ]
    before, used = model.executions(), len(STEPS) + 1
    for turn, copies in enumerate(COPIES):
        count = min(copies * len(STEPS), model.sequence_places)
        live = [number % len(STEPS) for number in range(count)]
        for step in range(span):
            going = [at for at, number in enumerate(live) if step < STEPS[number]]
            progress(f"request {step + 1} of {counted(len(going), 'sequence')} at once")
            answers = model.ask_all([request(live[at], step, used + at) for at in going])
            verdict.requests_at_once += len(going)
            for at, answer in zip(going, answers, strict=True):
                where = f"in request {step + 1} of a sequence beside {counted(len(going) - 1, 'other')}"
                _compare(answer, alone[live[at]][step], tolerance, verdict, where)
        used += len(live)
        sizes = model.executions(before.requests + verdict.requests_at_once).since(before).sizes
        verdict.most_items = max(sizes, default=0)
        if turn and verdict.most_items > 1:
            break
    if verdict.most_items < 2:
        raise ServingError(
            f"no two of {verdict.requests_at_once} requests of sequences shared an execution of "
            f"{model.name}, so that nothing is known of it: ask again while its server is idle"
        )


def _compare(
    answer: Answer | ServingError,
    alone: Answer,
    tolerance: float | None,
    verdict: BatchingVerdict,
    where: str,
) -> None:
    if isinstance(answer, ServingError):
        verdict.failed.append(f"a request fails {where}: {answer}")
        return
    for name, expected in alone.items():
        found = next(one for one in verdict.outputs if one.name == name)
        if name not in answer:
            _note(verdict, name, float("inf"), f"output {name} is not answered {where}")
        elif excess := exceeds(answer[name], expected, tolerances([expected], tolerance)):
            said = f"output {name} differs by {excess.difference:.3g} {where}"
            _note(verdict, name, excess.difference, f"{said}; the tolerance is {excess.tolerance:.3g}")
        elif not found.depends:
            gap = difference(answer[name], expected)
            found.largest_difference = max(found.largest_difference, gap)


def _note(verdict: BatchingVerdict, output: str, gap: float, said: str) -> None:
    found = next(one for one in verdict.outputs if one.name == output)
    if not found.depends:  # what was seen first, in batches of known neighbours, says the most
        found.depends, found.largest_difference, found.said = True, gap, said


def _alone(item: Item, batches: bool, sequence: bool) -> InferRequest:
    arrays = {name: array[None] for name, array in item.items()} if batches else item
    if not sequence:
        return InferRequest(arrays)
    return InferRequest(arrays, sequence=secrets.randbits(40) + 1, start=True, end=True)


def _bounded(model: RemoteModel) -> bool:
    return MAX_SHAPE in model.config.parameters


def _bounds(text: str) -> dict[str, Sequence[int]]:
    """ "INPUT=d1,d2;..." as numbers, -1 where there is no bound."""
    found: dict[str, Sequence[int]] = {}
    for part in filter(None, text.split(";")):
        name, _, dims = part.rpartition("=")
        found[name] = [int(dim) for dim in dims.split(",")]
    return found
