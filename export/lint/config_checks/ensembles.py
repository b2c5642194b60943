"""TV5xx: ensembles, checked as core does, first alone and then against the models of their steps."""

from collections.abc import Iterator
from typing import Any

from export.lint.comparison import data_type_name, loosely_equal, near
from export.lint.config_checks import decoupled
from export.lint.reading.repository import ENSEMBLE, Model, Repository
from export.lint.rules import WARNING, Finding

__all__ = ["check"]

SECTION = "ensemble_scheduling"
FORBIDDEN = ("instance_group", "optimization", "model_warmup")
LATEST = -1


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """TV501 to TV510, of ensembles alone.

    Steps are held against the default configs of their models. Where the ensemble contains itself (TV509),
    types, dims and branches along the chain are not followed.
    """
    if not model.is_ensemble:
        return
    yield from _sections(model)
    yield from _complete(model)
    if not model.config.ensemble_scheduling.step:
        return
    loop = _loop_of_models(model, repository)
    if loop:
        yield model.finding(
            "TV509", f"the ensemble contains itself: {' -> '.join(loop)}", "take it out of its steps", SECTION
        )
    yield from _data_flow(model)
    for index, step in enumerate(model.config.ensemble_scheduling.step):
        member = repository.models.get(step.model_name)
        yield from _member(model, index, step, member, repository)
    if not loop:
        yield from _chain(model, repository)
        yield from decoupled.check(model, repository)


def _sections(model: Model) -> Iterator[Finding]:
    config = model.config
    for field in FORBIDDEN:
        if field in {descriptor.name for descriptor, _ in config.ListFields()}:
            yield model.finding(
                "TV501",
                f"an ensemble may not have {field}",
                "set it in the models of the steps" if field != "optimization" else "remove it",
                field,
            )
    if config.backend:
        yield model.finding(
            "TV501",
            f"an ensemble has no backend, this one has {config.backend!r}",
            'remove it, and write platform: "ensemble"',
            "backend",
        )


def _complete(model: Model) -> Iterator[Finding]:
    config = model.config
    if config.platform != ENSEMBLE and not config.backend:
        yield model.finding(
            "TV502",
            f"ensemble_scheduling needs platform: {ENSEMBLE!r}, the platform is {config.platform!r}",
            f"write platform: {ENSEMBLE!r}",
            SECTION,
        )
    steps = config.ensemble_scheduling.step
    if not steps:
        yield model.finding("TV502", "there is no step", "add ensemble_scheduling { step [ ... ] }", SECTION)
    for index, step in enumerate(steps):
        for field in ("model_name", "input_map", "output_map"):
            if not getattr(step, field):
                yield model.finding("TV502", f"step {index} has no {field}", "add it", SECTION, "step", index)
    for field in ("input", "output"):
        if steps and not getattr(config, field):
            yield model.finding(
                "TV502", f"the ensemble has no {field}: it is not completed from its models", f"add {field}"
            )


def _data_flow(model: Model) -> Iterator[Finding]:
    config = model.config
    steps = config.ensemble_scheduling.step
    inputs = [entry.name for entry in config.input]
    outputs = [entry.name for entry in config.output]
    writers: dict[str, int] = {}
    for index, step in enumerate(steps):
        for tensor in step.output_map.values():
            if tensor in writers:
                yield model.finding(
                    "TV505",
                    f"ensemble tensor {tensor!r} is written by step {writers[tensor]} and by step {index}",
                    "give each output a tensor of its own",
                    SECTION, "step", index, "output_map",
                )  # fmt: skip
            writers.setdefault(tensor, index)
    read = {tensor: index for index, step in enumerate(steps) for tensor in step.input_map.values()}
    known = {*inputs, *writers}
    for tensor, index in read.items():
        if tensor not in known:
            yield model.finding(
                "TV505",
                f"step {index} ({steps[index].model_name}) reads {tensor!r}, which is neither an input of "
                "the ensemble nor written by a step",
                near(tensor, known - {*steps[index].output_map.values()})
                or "add it to the ensemble's inputs",
                SECTION, "step", index, "input_map",
            )  # fmt: skip
    for position, name in enumerate(inputs):
        if name not in read:
            yield model.finding(
                "TV505",
                f"no step reads the ensemble's input {name!r}",
                "map it to a model's input, or remove it",
                "input",
                position,
            )
    for position, name in enumerate(outputs):
        if name not in writers:
            yield model.finding(
                "TV505",
                f"no step writes the ensemble's output {name!r}",
                near(name, set(writers) - set(read)) or "map a model's output to it",
                "output",
                position,
            )
    for tensor, index in writers.items():
        if tensor not in read and tensor not in outputs:
            yield model.finding(
                "TV505",
                f"step {index} ({steps[index].model_name}) writes {tensor!r}, which nobody reads",
                "take it out of output_map, or make it an output of the ensemble",
                SECTION, "step", index, "output_map",
            )  # fmt: skip
    yield from _circle(model, known)


def _circle(model: Model, known: set[str]) -> Iterator[Finding]:
    """Steps that wait for each other; tensors that nobody writes have been told already."""
    steps = list(model.config.ensemble_scheduling.step)
    written = {tensor for step in steps for tensor in step.output_map.values()}
    ready = {entry.name for entry in model.config.input} | {
        tensor for step in steps for tensor in step.input_map.values() if tensor not in known
    }
    waiting = list(range(len(steps)))
    while runnable := [index for index in waiting if set(steps[index].input_map.values()) <= ready]:
        for index in runnable:
            ready |= set(steps[index].output_map.values())
            waiting.remove(index)
    if waiting:
        lacking = sorted({*steps[waiting[0]].input_map.values()} & written - ready)
        names = ", ".join(f"{index} ({steps[index].model_name})" for index in waiting)
        yield model.finding(
            "TV509",
            f"no order runs the steps {names}: step {waiting[0]} waits for {lacking[0]!r}"
            if lacking
            else f"no order runs the steps {names}",
            "break the circle",
            SECTION, "step", waiting[0],
        )  # fmt: skip


def _loop_of_models(model: Model, repository: Repository) -> list[str]:
    """Names from the ensemble back to itself, or none."""
    trail: list[str] = []

    def walk(current: Model) -> bool:
        trail.append(current.name)
        for step in current.config.ensemble_scheduling.step:
            if step.model_name == model.name:
                trail.append(model.name)
                return True
            member = repository.models.get(step.model_name)
            if member is not None and member.name not in trail and walk(member):
                return True
        trail.pop()
        return False

    return trail if walk(model) else []


def _member(
    model: Model, index: int, step: Any, member: Model | None, repository: Repository
) -> Iterator[Finding]:
    where = (SECTION, "step", index)
    if not step.model_name:
        return
    if member is None:
        if not step.model_namespace:  # else it may be of another repository
            yield model.finding(
                "TV503",
                f"step {index} runs {step.model_name!r}, which is not in the repository",
                near(step.model_name, set(repository.models) - {model.name}) or "add the model",
                *where,
                "model_name",
            )
        return
    if not member.readable:
        return
    if step.model_version != LATEST and member.versions and step.model_version not in member.served_versions:
        unset = step.model_version == 0 and model.source.at(*where).scalar("model_version") is None
        yield model.finding(
            "TV503",
            f"step {index} has no model_version, which means version 0"
            if unset
            else f"step {index} runs version {step.model_version} of {member.name!r}, which loads "
            f"{', '.join(map(str, member.served_versions)) or 'none'}",
            "write model_version: -1 for the latest",
            *where,
            *(() if unset else ("model_version",)),
        )
    yield from _maps(model, index, step, member)
    batch, largest = model.config.max_batch_size, member.signature.max_batch_size
    if largest and batch > largest:
        yield model.finding(
            "TV508",
            f"the ensemble takes batches of {batch}, {member.name!r} of step {index} at most {largest}",
            f"write max_batch_size: {largest} in the ensemble, or raise the model's",
            "max_batch_size",
        )


def _maps(model: Model, index: int, step: Any, member: Model) -> Iterator[Finding]:
    signature = member.signature
    for field, mapped, known in (
        ("input_map", step.input_map, signature.inputs),
        ("output_map", step.output_map, signature.outputs),
    ):
        if known is None or (member.python_source and signature.more):
            continue  # a Python model may also change what is there
        kind = field.removesuffix("_map")
        for name in sorted(mapped):
            if name not in known and not signature.more:
                yield model.finding(
                    "TV504",
                    f"step {index} maps {kind} {name!r}, {member.name!r} has {', '.join(map(repr, known))}",
                    (near(name, known) or "write a name of the model") + "; keys are the model's names",
                    SECTION, "step", index, field, name,
                )  # fmt: skip
        wrong = [name for name in mapped if name not in known]
        missing = [
            name
            for name, entry in known.items()
            if kind == "input" and name not in mapped and not entry.optional
        ]
        for name in missing[len(wrong) :]:
            yield model.finding(
                "TV504",
                f"step {index} does not map {name!r}, an input of {member.name!r}",
                "map it to a tensor of the ensemble",
                SECTION, "step", index, "input_map",
            )  # fmt: skip


def _chain(model: Model, repository: Repository) -> Iterator[Finding]:
    """The first to name an ensemble tensor says its type and shape; the others must agree."""
    config = model.config
    told: dict[str, tuple[int, tuple[int, ...], bool | None, str]] = {}  # type, dims, batched if known, whose
    for entry in (*config.input, *config.output):
        dims = tuple(entry.reshape.shape if entry.HasField("reshape") else entry.dims)
        told.setdefault(entry.name, (entry.data_type, dims, config.max_batch_size > 0, "the ensemble"))
    for index, step in enumerate(config.ensemble_scheduling.step):
        member = repository.models.get(step.model_name)
        if member is None or not member.readable or member.signature.max_batch_size is None:
            continue
        batched = member.signature.max_batch_size > 0
        told_of_batch = batched or config.max_batch_size < 2
        for field, mapped, known in (
            ("input_map", step.input_map, member.signature.inputs),
            ("output_map", step.output_map, member.signature.outputs),
        ):
            for name, tensor in sorted(mapped.items()):
                if known is None or name not in known:
                    continue
                entry = known[name]
                if not entry.dims:  # the backend fills them in
                    continue
                here = (entry.data_type, tuple(entry.dims), batched, f"{member.name}'s {name!r}")
                first = told.setdefault(tensor, here)
                where = (SECTION, "step", index, field, name)
                if not told_of_batch and first[2] and loosely_equal(first[1], here[1]):
                    told_of_batch = True
                    yield _without_batch(model, index, here, field)
                if first[0] and here[0] and first[0] != here[0]:
                    yield model.finding(
                        "TV506",
                        f"{tensor!r} is {data_type_name(first[0])} as {first[3]} has it, "
                        f"and {data_type_name(here[0])} as {here[3]}",
                        "cast it in one of the models, or correct the data_type",
                        *where,
                    )
                elif not _fits(first, here):
                    yield model.finding(
                        "TV507",
                        f"{tensor!r} is {_shape(first)} as {first[3]} has it, "
                        f"and {_shape(here)} as {here[3]}",
                        "correct the dims; a model without batching has the batch in its dims, as [-1, ...]",
                        *where,
                    )


def _without_batch(model: Model, index: int, here: tuple[Any, ...], field: str) -> Finding:
    """Core adds the batch to the dims of a tensor only where the dims do not agree without it."""
    return model.finding(
        "TV508",
        f"the ensemble takes batches of {model.config.max_batch_size}, and step {index} does not batch: "
        f"{here[3]} is {_shape(here)}, without a dim for the batch, so requests of two items or more "
        + ("are refused" if field == "input_map" else "get one answer"),
        "let the model batch (max_batch_size, or -1 as the first of its dims), or write max_batch_size: 1 in "
        "the ensemble",
        "max_batch_size",
        severity=WARNING,
    )


def _fits(first: tuple[Any, ...], here: tuple[Any, ...]) -> bool:
    """Alike without the batch, or with it: a model that does not batch may have it in its dims."""
    return loosely_equal(first[1], here[1]) or any(
        loosely_equal(one, other) for one in _full(first) for other in _full(here)
    )


def _full(told: tuple[Any, ...]) -> list[tuple[int, ...]]:
    """The dims with the batch: two possibilities where only the backend knows of one."""
    return [
        dims for batched, dims in ((True, (-1, *told[1])), (False, told[1])) if told[2] in (batched, None)
    ]


def _shape(told: tuple[Any, ...]) -> str:
    return f"{list(told[1])}{' and a batch' if told[2] else ''}"
