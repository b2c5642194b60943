"""TV510: branches of an ensemble that answer a different number of times must not meet, as core sees them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from export.lint.reading.repository import Model, Repository
from export.lint.rules import Finding

__all__ = ["check", "is_decoupled"]

SECTION = "ensemble_scheduling"
COMMON = 0  # the branch of what answers once for each request


@dataclass
class _Flow:
    """branches: of the ensemble's tensors; met: a step, or None for the outputs, and its branches."""

    branches: dict[str, int] = field(default_factory=dict)
    met: list[tuple[int | None, dict[str, int]]] = field(default_factory=list)
    count: int = 0


def check(model: Model, repository: Repository) -> Iterator[Finding]:
    """TV510, of an ensemble without a loop: for each step in which branches meet, or else for the outputs."""
    steps = model.config.ensemble_scheduling.step
    for index, branches in _flow(model, repository, ()).met:
        apart: dict[int, str] = {}
        for tensor in sorted(branches):
            apart.setdefault(branches[tensor], tensor)
        first, second = list(apart.values())[:2]
        whose = f"step {index} ({steps[index].model_name})" if index is not None else "the ensemble's output"
        yield model.finding(
            "TV510",
            f"{whose} takes {first!r} and {second!r}, which come a different number of times: one is of a "
            "decoupled "
            "model, and the other is not, or of another one",
            "let both come from one decoupled model, or carry the one along through it",
            *((SECTION, "step", index) if index is not None else ("output",)),
        )


def is_decoupled(model: Model, repository: Repository, above: tuple[str, ...] = ()) -> bool:
    """Of an ensemble that follows from its steps, whatever its config says."""
    if not model.is_ensemble or model.name in above:
        return model.config.model_transaction_policy.decoupled
    return _flow(model, repository, (*above, model.name)).count > 0


def _flow(model: Model, repository: Repository, above: tuple[str, ...]) -> _Flow:
    """Steps run once what they read is there; a decoupled one begins a branch of its own."""
    flow = _Flow({entry.name: COMMON for entry in model.config.input})
    waiting = list(enumerate(model.config.ensemble_scheduling.step))
    while ready := [(i, step) for i, step in waiting if set(step.input_map.values()) <= set(flow.branches)]:
        waiting = [entry for entry in waiting if entry not in ready]
        for index, step in ready:
            read = {tensor: flow.branches[tensor] for tensor in step.input_map.values()}
            branch = min(read.values(), default=COMMON)
            if len(set(read.values())) > 1:
                flow.met.append((index, read))
                branch = max(read.values())
            member = repository.models.get(step.model_name)
            if member is not None and member.readable and is_decoupled(member, repository, above):
                flow.count += 1
                branch = flow.count
            flow.branches.update(dict.fromkeys(step.output_map.values(), branch))
    outputs = [entry.name for entry in model.config.output]
    answered = {name: flow.branches[name] for name in outputs if name in flow.branches}
    if len(answered) == len(outputs) and len(set(answered.values())) > 1 and not flow.met:
        flow.met.append((None, answered))
    return flow
