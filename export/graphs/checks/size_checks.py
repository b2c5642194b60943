"""Does the graph answer in other sizes than those of the samples, and refuse what the network refuses?"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from torch import nn

from export.common.wording import said_by
from export.graphs.checks.tolerance import difference
from export.graphs.conversion import Converted, first_states, run_torch, stack
from export.graphs.guards import guarded
from export.graphs.sessions import loaded
from export.graphs.sizes import Condition, SizeRules, SizeTrial, sized
from export.sources.specs.spec import ModelSpec, Sample

__all__ = ["size_failures", "with_guards"]

SLACK = 10  # times the tolerance, for sizes that no sample has
DIVISION = (
    "A size is computed otherwise in the graph. Is it a floor division of a negative number? There it "
    "rounds towards zero: write (n + k - 1) // k for -(-n // k)"
)


@dataclass(frozen=True)
class _Outcome:
    """What is wrong with an answer; `refused` when the network refuses what the graph answers."""

    trial: SizeTrial
    where: str
    fault: str
    advice: str = ""
    refused: bool = False


def with_guards(spec: ModelSpec, converted: Converted, served: nn.Module, samples: list[Sample]) -> bytes:
    """The converted graph, which also refuses the sizes that the network refuses, or `max_dims` excludes.

    Raises `VerificationError` when ONNX Runtime does not load it.
    """
    conditions = list(converted.rules.bounds)
    session = loaded(converted.graph)
    for outcome in _outcomes(spec, session, served, samples, converted.rules):
        condition = outcome.trial.condition
        if outcome.refused and condition and condition not in conditions:
            conditions.append(condition)
    return guarded(converted.graph, converted.rules, conditions)


def size_failures(
    spec: ModelSpec,
    session: "onnxruntime.InferenceSession",
    served: nn.Module,
    samples: list[Sample],
    rules: SizeRules,
) -> list[str]:
    """One sentence for each condition on sizes that matters, or else for the first unusual size that fails.

    The graph must answer as PyTorch does, or both refuse.
    """
    failures: dict[Condition | None, str] = {}
    for outcome in _outcomes(spec, session, served, samples, rules):
        condition = outcome.trial.condition
        if condition in failures or (failures and not condition):
            continue  # said already; unusual sizes come last, and fail for the same reasons
        line = f" ({condition.line})" if condition and condition.line else ""
        if condition is None or outcome.advice:
            advice = f". {outcome.advice}" if outcome.advice else ""
            failures[condition] = f"{outcome.fault} {outcome.where}, which is no sample's size{line}{advice}"
            continue
        failures[condition] = (
            f"the graph is right only while {condition.text}{line}: {outcome.where} {outcome.fault}. Write "
            "the network without a branch on a size (torch.where) and without a size as a number, pad what "
            "is too small, or fix that dim in the spec"
        )
    return list(failures.values())


def _outcomes(
    spec: ModelSpec,
    session: "onnxruntime.InferenceSession",
    served: nn.Module,
    samples: list[Sample],
    rules: SizeRules,
) -> Iterator[_Outcome]:
    """Of the trials, those with which something is wrong."""
    names = [tensor.name for tensor in spec.graph_inputs]
    trials = list(rules.trials(samples))
    usual = _largest(run_torch(served, (*stack([samples[0]] * 2), *first_states(spec, 2)))) if trials else []
    for trial in trials:
        size = next((size for (_, axis), size in trial.sizes.items() if axis == 0), 1)
        items = [sized(samples[index % len(samples)], trial.sizes) for index in range(size)]
        batch = (*stack(items), *first_states(spec, size))
        where = f"at batch {size}, dims {[list(array.shape[1:]) for array in batch]}"
        try:
            theirs = run_torch(served, batch)
        except Exception:  # of the network: too small for a kernel, or refused by itself
            theirs = None
        try:
            ours = session.run(None, dict(zip(names, batch, strict=True)))
        except Exception as error:  # of ONNX Runtime
            if theirs is not None:
                reason = said_by(error)
                yield _Outcome(trial, where, f"the graph fails ({reason}), and PyTorch answers")
            continue
        if theirs is None:
            if any(array.size for array in ours):
                yield _Outcome(trial, where, "the graph answers, and PyTorch refuses", refused=True)
            continue
        if found := _fault(spec, ours, theirs, usual):
            yield _Outcome(trial, where, *found)


def _fault(
    spec: ModelSpec, ours: list[NDArray[Any]], theirs: list[NDArray[Any]], usual: list[float]
) -> tuple[str, str] | None:
    """What differs, and advice.

    Sums over more columns are larger than usual, and add up more errors of rounding.
    """
    scales = [
        largest / known if known else 1.0 for largest, known in zip(_largest(theirs), usual, strict=True)
    ]
    for tensor, one, other, scale in zip(spec.graph_outputs, ours, theirs, scales, strict=False):
        if one.shape != other.shape:
            return f"output {tensor.name} is {list(one.shape)}, PyTorch's {list(other.shape)}", DIVISION
        found = difference(one, other)
        if not found <= SLACK * spec.tolerance * max(1.0, scale):
            return f"output {tensor.name} differs from PyTorch's by {found:.3g}", ""
    return None


def _largest(answers: list[NDArray[Any]]) -> list[float]:
    """Of the absolute and finite values, by output."""
    floats = [answer.astype(np.float64) for answer in answers]
    return [float(np.abs(answer[np.isfinite(answer)]).max(initial=0)) for answer in floats]
