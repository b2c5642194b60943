"""Is the graph what the spec says, and does it compute what PyTorch computes, whoever shares the batch?

Everything is checked on the bytes that will be published, and every failure is reported at once. A model
with states is run as a server runs it: a sequence of requests, the states of one going into the next.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from torch import nn

from export.common import release
from export.common.errors import VerificationError
from export.common.wording import counted, said_by
from export.graphs.checks.batching import check_batching
from export.graphs.checks.indices import unseen_integers
from export.graphs.checks.neighbours import Item
from export.graphs.checks.size_checks import size_failures
from export.graphs.conversion import EXAMPLE_BATCH, first_states, run_torch, stack
from export.graphs.facts import GraphFacts, GraphTensor, facts_of
from export.graphs.sessions import loaded
from export.graphs.sizes import SizeRules
from export.sources.specs.spec import ModelSpec, Sample, Tensor

__all__ = ["Verification", "check_graph", "compare", "verify"]

BATCH_SIZES = (1, 2, 7)  # and the spec's maximum
WITHIN_AN_ITEM = (
    "Strangers' requests share a batch: let every operation stay within an item (no softmax, mean, maximum "
    "or sorting over dim 0, no batch norm in training), or give the spec max_batch_size=1"
)
ALONE = 8  # items that are compared where nothing shares a batch
SEQUENCE_RUNS = 8  # requests of each sequence, for a model with states
MIN_SPREAD = 10  # tolerances by which answers must differ between samples, else nothing is proven
BATCH_IS_CONSTANT = (
    f"The graph runs at batch {EXAMPLE_BATCH} only, that of the exporter's example: PyTorch's exporter wrote "
    "it into the graph as a number. The batch is the first dim of all that is served, also where a layer "
    'wants it second (batch_first=True); of a GRU see docs/how-to/export.md, "Recurrent networks". What '
    "torch.cat joins along the batch is parted again by y[:n] and y[n:] with n = x.shape[0], not by chunk(2) "
    "or view(2, -1, ...)"
)


@dataclass(frozen=True)
class Verification:
    """`largest_difference` is absolute, over all outputs and runs; `top1_agreement` is the share of items
    whose best class is the same, for models with labels."""

    items: int
    largest_difference: float
    top1_agreement: float | None


def verify(
    spec: ModelSpec,
    onnx_bytes: bytes,
    served: nn.Module,
    samples: list[Sample],
    rules: SizeRules | None = None,
) -> Verification:
    """Check the file, whether items answer beside others as they do alone, and compare it with PyTorch at
    batch 1, 2, 7 and the maximum, in every sample size; with `rules` also in sizes that no sample has.

    Raises `VerificationError` with all failures.
    """
    model = onnx.load_from_string(onnx_bytes)
    failures = check_graph(spec, model)
    session = loaded(onnx_bytes)
    dependent, failed = batching_failures(spec, session, samples, unseen_integers(model))
    failures += dependent
    failures += size_failures(spec, session, served, samples, rules) if rules else []
    found = compare(spec, session, served, samples, failures)  # where it fails, too, it says more
    if failed:
        raise VerificationError(failed)
    return found


def batching_failures(
    spec: ModelSpec,
    session: "onnxruntime.InferenceSession",
    samples: list[Sample],
    integers: Mapping[str, Sequence[int]],
) -> tuple[list[str], list[str]]:
    """Of each output that depends on what else is in its batch a sentence, and others of batches that fail,
    or come back with another number of items: where samples are alike (torch.unique), for instance.
    integers: by input, as `check_batching` takes them."""
    outputs = [tensor.name for tensor in spec.graph_outputs]

    def run(batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return dict(zip(outputs, session.run(None, batch), strict=False))  # `compare` counts the outputs

    try:
        items = _items(spec, run, samples)
    except Exception:  # the graph does not run, which `compare` says with the reason
        return [], []
    findings = check_batching(run, items, spec.max_batch_size, spec.tolerance, integers=integers)
    random = "Take the randomness out (dropout in training?)"
    told = [(finding, random if finding.kind == "random" else WITHIN_AN_ITEM) for finding in findings]
    return (
        [f"{finding}. {advice}" for finding, advice in told if finding.kind != "failed"],
        [f"{finding}. {advice}" for finding, advice in told if finding.kind == "failed"],
    )


def _items(
    spec: ModelSpec, run: Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]], samples: list[Sample]
) -> list[Item]:
    """The samples by input name; for a model with states each goes on from the one before."""
    names = [tensor.name for tensor in spec.graph_inputs]
    items: list[Item] = []
    states = first_states(spec, 1)
    for sample in samples:
        batch = dict(zip(names, (*stack([sample]), *states), strict=True))
        items.append({name: array[0, ...] for name, array in batch.items()})
        if spec.states:
            answer = run(batch)
            states = tuple(answer[state.output_name] for state in spec.states)
    return items


def compare(
    spec: ModelSpec,
    session: "onnxruntime.InferenceSession",
    served: nn.Module,
    samples: list[Sample],
    failures: Sequence[str] = (),
) -> Verification:
    """Compare the answers of anything that runs as ONNX Runtime's session does (`run(None, arrays by name)`
    gives the outputs in order) with PyTorch's. `failures` are those known before; raises
    `VerificationError` with all."""
    comparison = _Comparison(spec, list(failures))
    ran, refused = set(), False  # batches that the graph ran, and whether it failed at others
    for sequence in _sequences(spec, samples):
        first = sequence[0]
        where = f"at batch {len(first[0])}, dims {[list(array.shape[1:]) for array in first]}"
        try:
            _run_sequence(comparison, session, served, sequence, where)
            ran.add(len(first[0]))
        except Exception as error:  # of ONNX Runtime or of PyTorch; the next batch may fail otherwise
            comparison.failures.append(f"running fails {where}: {said_by(error)}")
            refused |= type(error).__module__.startswith("onnxruntime")
    return comparison.result(BATCH_IS_CONSTANT if refused and ran == {EXAMPLE_BATCH} else "")


def _run_sequence(
    comparison: "_Comparison",
    session: onnxruntime.InferenceSession,
    served: nn.Module,
    sequence: list[Sample],
    where: str,
) -> None:
    """One batch after the other, each side going on from its own states, so that errors would add up."""
    spec = comparison.spec
    names = [tensor.name for tensor in spec.graph_inputs]
    our_states = their_states = first_states(spec, len(sequence[0][0]))
    for number, batch in enumerate(sequence, start=1):
        ours = session.run(None, dict(zip(names, (*batch, *our_states), strict=True)))
        theirs = run_torch(served, (*batch, *their_states))
        comparison.add(ours, theirs, f"{where}, request {number} of a sequence" if spec.states else where)
        our_states = tuple(ours[len(spec.outputs) :])
        their_states = tuple(theirs[len(spec.outputs) :])


@dataclass
class _Comparison:
    """Collects differences and failures over batches."""

    spec: ModelSpec
    failures: list[str]
    items: int = 0
    agreed: int = 0
    largest: float = 0.0
    seen: dict[tuple[Any, ...], list[NDArray[Any]]] = field(
        default_factory=dict
    )  # least and greatest, by output and dims

    def add(self, ours: list[NDArray[Any]], theirs: list[NDArray[Any]], where: str) -> None:
        """`ours` is ONNX Runtime's answer and `theirs` PyTorch's, one array per output."""
        tensors = self.spec.graph_outputs
        if not len(ours) == len(theirs) == len(tensors):
            self.failures.append(
                f"the graph has {counted(len(ours), 'output')}, PyTorch {len(theirs)}, the spec "
                f"{len(tensors)}"
            )
            return
        self.items += len(theirs[0])
        for tensor, graph_answer, torch_answer in zip(tensors, ours, theirs, strict=True):
            self._add_output(tensor, graph_answer, torch_answer, where)

    def _add_output(self, tensor: Tensor, ours: NDArray[Any], theirs: NDArray[Any], where: str) -> None:
        dims = (len(theirs), *tensor.dims)
        fits = len(dims) == ours.ndim and all(map(_fits, dims, ours.shape))
        if not fits or ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            self.failures.append(
                f"output {tensor.name} is {ours.dtype} {ours.shape}, "
                f"in PyTorch {theirs.dtype} {theirs.shape}, in the spec {tensor.dtype} {dims} {where}"
            )
            return
        exact = theirs.astype(np.float64)
        difference = float(np.abs(ours - exact).max(initial=0))
        self.largest = max(self.largest, difference)
        bounds = self.seen.setdefault((tensor.name, *exact.shape[1:]), [exact[0], exact[0]])
        bounds[:] = [np.minimum(bounds[0], exact.min(0)), np.maximum(bounds[1], exact.max(0))]
        if not difference <= self.spec.tolerance:  # so written, NaN fails
            self.failures.append(
                f"output {tensor.name} differs from PyTorch by {difference:.3g} {where}; "
                f"the tolerance is {self.spec.tolerance:g}"
            )
        if tensor.labels:
            self.agreed += int((ours.argmax(-1) == theirs.argmax(-1)).sum())

    def result(self, advice: str = "") -> Verification:
        spreads: dict[str, float] = {}
        for (name, *_), (least, greatest) in self.seen.items():
            spreads[name] = max(spreads.get(name, 0.0), float((greatest - least).max(initial=0)))
        for name, spread in spreads.items():
            if not spread > MIN_SPREAD * self.spec.tolerance:
                self.failures.append(
                    f"output {name} is almost the same for all samples (they differ by {spread:.3g}), so a "
                    f"tolerance of {self.spec.tolerance:g} proves nothing: lower it, or give other samples"
                )
        if self.failures:
            raise VerificationError(self.failures, advice)
        labelled = any(tensor.labels for tensor in self.spec.outputs)
        return Verification(self.items, self.largest, self.agreed / self.items if labelled else None)


def check_graph(spec: ModelSpec, model: onnx.ModelProto) -> list[str]:
    """What is wrong with the file itself: ONNX's checker, versions that the release accepts, tensors."""
    failures = []
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        failures.append(f"onnx.checker: {error}")
    facts = facts_of(model)
    accepted = f"Triton {release.STRICTEST.name} (ONNX Runtime {release.ONNXRUNTIME}) accepts up to"
    if facts.opset > release.MAX_OPSET:
        failures.append(f"opset {facts.opset}: {accepted} {release.MAX_OPSET}")
    if facts.ir_version > release.MAX_IR_VERSION:
        failures.append(f"ONNX IR version {facts.ir_version}: {accepted} {release.MAX_IR_VERSION}")
    return failures + _tensor_failures(spec, facts)


def _tensor_failures(spec: ModelSpec, facts: GraphFacts) -> list[str]:
    failures = []
    for kind, tensors, declared in (
        ("input", spec.graph_inputs, facts.inputs),
        ("output", spec.graph_outputs, facts.outputs),
    ):
        expected = [_declaration(tensor) for tensor in tensors]
        failures += [
            f"the graph's {kind} {found} is not in the spec" for found in declared if found not in expected
        ]
        failures += [
            f"the spec's {kind} {wanted} is not in the graph" for wanted in expected if wanted not in declared
        ]
    return failures


def _declaration(tensor: Tensor) -> GraphTensor:
    dims = tuple(None if dim == -1 else dim for dim in tensor.dims)
    return GraphTensor(tensor.name, tensor.dtype, (None, *dims))


def _sequences(spec: ModelSpec, samples: list[Sample]) -> Iterator[list[Sample]]:
    """Batches of 1, 2, 7 and the maximum in each sample size, going round the samples of that size.

    Each is a list of one batch, or of several with the same sequences in their rows: for a model with states
    a sample is followed by the one after it.
    """
    groups: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(tuple(array.shape for array in sample), []).append(sample)
    for group in groups.values():
        taken = 0
        for size in _batch_sizes(spec.max_batch_size):
            yield [
                stack([group[(taken + item + run) % len(group)] for item in range(size)])
                for run in range(SEQUENCE_RUNS if spec.states else 1)
            ]
            taken += size


def _batch_sizes(most: int) -> list[int]:
    if most == 1:
        return [1] * ALONE
    return sorted({size for size in BATCH_SIZES if size < most} | {most})


def _fits(dim: int, size: int) -> bool:
    return dim in (-1, size)
