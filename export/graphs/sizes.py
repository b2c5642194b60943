"""For which sizes a traced graph is right: what PyTorch's exporter took for granted of them.

It traces one example. A branch on a size (`if x.shape[1] > 100`) goes the example's way and stays so, and so
does a size that becomes a number; what was taken for granted is known to it as ranges and conditions. A range
with an end is refused here, unless the spec declares it; of all other conditions the sizes that break them
are handed to verification, together with sizes far from those of the samples.
"""

import contextlib
import itertools
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy
import torch
from torch.utils._sympy.printers import PythonPrinter

from export.common.errors import ConversionError
from export.sources.specs.spec import ModelSpec, Sample
from export.sources.specs.user_code import line_of_frames

__all__ = ["Condition", "Guards", "SizeRules", "SizeTrial", "Sizes", "heard_guards", "rules_of", "sized"]

Axis = tuple[int, int]  # the input's place in the spec, and the axis of its array, of which 0 is the batch
Sizes = dict[Axis, int]  # of every axis that is not fixed

NO_BOUND = 1 << 30  # from here on an end is one of the exporter's own arithmetic
DENSE = 260  # sizes that are all tried on the conditions; larger ones in steps
STEP = 1.2
LARGEST_SIZE = 1 << 24
PAIRED = (1, 2, 3, 4, 5, 7, 8, 16, 33, 100)  # tried together where a condition is of several sizes
MOST_ELEMENTS = 1 << 22  # of one input of one item, in a run with unusual sizes
TINY = (1, 2, 3)
FACTORS = (
    0.13,
    0.5,
    0.93,
    1.07,
    2.03,
    4.1,
    8.3,
)  # of the samples' sizes; none of them keeps a round number round
TRIAL_BATCH = 2


@dataclass
class Guards:
    """Conditions as the exporter met them, with the user's own lines: text of the condition -> line."""

    lines: dict[str, str] = field(default_factory=dict)

    @property
    def last_line(self) -> str | None:
        """Of the condition that was met last; None if no condition came from the user's code."""
        return next(reversed(self.lines.values()), None)


@dataclass(frozen=True)
class Condition:
    """What must hold of sizes: in the user's terms, as sympy has it, and the user's line if that is known."""

    text: str
    expression: Any
    line: str | None = None


@dataclass(frozen=True)
class SizeTrial:
    """Sizes to run, and the condition that they break: None where they are only unusual."""

    sizes: Sizes
    condition: Condition | None = None


@dataclass(frozen=True)
class SizeRules:
    """`symbols`: the expression of every axis that is not fixed; `example`: the size of each symbol in the
    example; `conditions`: what must hold for the graph to be the network."""

    spec: ModelSpec
    symbols: dict[Axis, Any]  # sympy has no types
    example: dict[Any, int]
    conditions: tuple[Condition, ...] = ()

    @property
    def bounds(self) -> list[Condition]:
        """What the spec's `max_dims` say."""
        bounded = [
            (axis, symbol, self.spec.graph_inputs[axis[0]].most(axis[1] - 1))
            for axis, symbol in self.symbols.items()
            if axis[1]
        ]
        return [
            Condition(f"{self._name(axis)} <= {most}", sympy.Le(symbol, most))
            for axis, symbol, most in bounded
            if most > 0
        ]

    def trials(self, samples: list[Sample]) -> Iterator[SizeTrial]:
        """What verification runs besides the samples: first what breaks a condition, then unusual sizes."""
        tried = set()
        for trial in itertools.chain(self._broken(), self._unequal(), self._unusual(samples)):
            key = tuple(sorted(trial.sizes.items()))
            if key not in tried and self._allowed(trial.sizes):
                tried.add(key)
                yield trial

    def _allowed(self, sizes: Sizes) -> bool:
        for (place, axis), size in sizes.items():
            most = self.spec.max_batch_size if axis == 0 else self.spec.graph_inputs[place].most(axis - 1)
            if size < 1 or (most != -1 and size > most):
                return False
        return True

    def _broken(self) -> Iterator[SizeTrial]:
        for condition in self.conditions:
            symbols = sorted(condition.expression.free_symbols & set(self.example), key=str)
            for changes in self._breaking(condition.expression, symbols):
                yield SizeTrial(self._sizes({**self.example, **changes}), condition)

    def _breaking(self, expression: Any, symbols: list[Any]) -> Iterator[dict[Any, int]]:
        """Sizes of these symbols for which the condition does not hold: a few, those next to the example."""
        if len(symbols) == 1:
            [symbol] = symbols
            limit = self.spec.max_batch_size if symbol == self._batch else LARGEST_SIZE
            sizes = sorted({*_candidates(limit), *_named(expression, symbol, limit)})
            broken = [size for size in sizes if not _holds(expression, {symbol: size})]
            here = self.example[symbol]
            below, above = [s for s in broken if s < here], [s for s in broken if s > here]
            for size in {*below[:1], *below[-1:], *above[:1]}:
                yield {symbol: _nearest(expression, symbol, here, size)}
            return
        found = 0
        most = [self.spec.max_batch_size if symbol == self._batch else LARGEST_SIZE for symbol in symbols]
        named = {int(number) for number in expression.atoms(sympy.Integer)}
        choices = [[size for size in sorted({*PAIRED, *named}) if 1 <= size <= limit] for limit in most]
        for chosen in sorted(itertools.product(*choices), key=sum):
            changes = dict(zip(symbols, chosen, strict=True))
            if not _holds(expression, changes):
                yield changes
                found += 1
            if found == 3:
                return

    @property
    def _batch(self) -> object:
        return self.symbols.get((0, 0))

    def _unequal(self) -> Iterator[SizeTrial]:
        """Axes that the graph takes for equal, and that the spec does not."""
        for one, other in itertools.combinations([axis for axis in self.symbols if axis[1]], 2):
            if self.symbols[one] != self.symbols[other]:
                continue
            equal = Condition(f"{self._name(one)} == {self._name(other)}", None)
            sizes = self._sizes(self.example)
            yield SizeTrial({**sizes, other: sizes[other] + 1}, equal)
            yield SizeTrial({**sizes, other: 1}, equal)
            yield SizeTrial({**sizes, one: 1}, equal)

    def _unusual(self, samples: list[Sample]) -> Iterator[SizeTrial]:
        """Smaller, odd, prime, and much larger than the samples, as far as memory allows."""
        open_axes = [axis for axis in self.symbols if axis[1]]
        if not open_axes:
            return
        batch = {axis: min(TRIAL_BATCH, self.spec.max_batch_size) for axis in self.symbols if not axis[1]}
        known = {axis: [sample[axis[0]].shape[axis[1] - 1] for sample in samples] for axis in open_axes}

        def scaled(factor: float) -> dict[object, int]:
            """By symbol, so that axes that are equal stay so."""
            return {
                self.symbols[axis]: _odd(factor * (max(known[axis]) if factor > 1 else min(known[axis])))
                for axis in open_axes
            }

        changes = [{self.symbols[axis]: size for axis in open_axes} for size in TINY]
        changes += [scaled(factor) for factor in FACTORS]
        if len(set(map(str, scaled(1)))) > 1:  # several that do not depend on each other
            small, large = scaled(0.5), scaled(2.03)
            changes += [{**small, symbol: large[symbol]} for symbol in small]
        for change in changes:
            sizes = {**batch, **{axis: change[self.symbols[axis]] for axis in open_axes}}
            if all(
                np.prod([sizes.get((place, axis), dim) for axis, dim in enumerate(tensor.dims, 1)], initial=1)
                <= MOST_ELEMENTS
                for place, tensor in enumerate(self.spec.graph_inputs)
            ):
                yield SizeTrial(sizes)

    def _sizes(self, values: dict[Any, int]) -> Sizes:
        return {axis: int(symbol.xreplace(values)) for axis, symbol in self.symbols.items()}

    def _name(self, axis: Axis) -> str:
        return f"{self.spec.graph_inputs[axis[0]].name}.shape[{axis[1]}]"


def sized(sample: Sample, sizes: Sizes) -> Sample:
    """The sample as a batch of these sizes: repeated from its beginning where it is too small, and cut."""
    arrays = []
    for place, array in enumerate(sample):
        for axis in range(1, array.ndim + 1):
            if (place, axis) in sizes:
                array = np.take(array, np.arange(sizes[place, axis]) % array.shape[axis - 1], axis - 1)
        arrays.append(array)
    return tuple(arrays)


@contextlib.contextmanager
def heard_guards(guards: Guards) -> Iterator[None]:
    """Notes each condition that the exporter adds inside, and where the user's code stands then."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if "[guard added]" not in message:
                return
            text = message.partition("[guard added]")[0].replace("[guard suppressed]", "")
            text = text.partition(" ")[2].strip()
            if line := line_of_frames(traceback.extract_stack()[:-1]):
                guards.lines.setdefault(text, line)

    listener = Listener(logging.INFO)
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [listener], False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def rules_of(program: torch.export.ExportedProgram, spec: ModelSpec, guards: Guards) -> SizeRules:
    """What the exporter took for granted. Raises `ConversionError` for a range with an end that the spec does
    not declare."""
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [nodes[name].meta["val"] for name in program.graph_signature.user_inputs]
    symbols: dict[Axis, Any] = {}
    environment = None
    for place, value in enumerate(values):
        for axis, size in enumerate(value.shape):
            if isinstance(size, torch.SymInt):
                symbols[place, axis] = size.node.expr
                environment = size.node.shape_env
    if environment is None:
        return SizeRules(spec, {}, {})
    free: set[Any] = set().union(*(expression.free_symbols for expression in symbols.values()))
    example = {symbol: int(environment.backed_var_to_val[symbol]) for symbol in free}
    rules = SizeRules(spec, symbols, example)
    printer = _printer(rules)
    conditions = _ranges(program, rules, guards, printer)
    for assertion in itertools.chain.from_iterable(environment.deferred_runtime_asserts.values()):
        expression = environment.replace(assertion.expr)
        if expression.free_symbols and expression.free_symbols <= free:  # the others are of values
            line = guards.lines.get(str(assertion.expr))
            conditions.append(Condition(printer(expression), expression, line))
    return SizeRules(spec, symbols, example, tuple(conditions))


def _printer(rules: SizeRules) -> Callable[[Any], str]:
    """Sympy's expressions in the user's terms: `x.shape[1] % 2 == 0`."""
    names = {
        symbol: sympy.Symbol(rules._name(axis), integer=True, positive=True)
        for axis, symbol in reversed(rules.symbols.items())
        if symbol in rules.example
    }
    return lambda expression: PythonPrinter().doprint(expression.xreplace(names))


def _ranges(program: Any, rules: SizeRules, guards: Guards, printer: Any) -> list[Condition]:
    """Lower ends as conditions; upper ends are refused where the spec allows larger sizes."""
    conditions = []
    for axis, symbol in rules.symbols.items():
        if symbol not in program.range_constraints:
            continue
        limits = program.range_constraints[symbol]
        if not axis[1]:
            _check_batch(rules.spec, limits.upper, _line_about(guards, symbol))
            continue
        tensor = rules.spec.graph_inputs[axis[0]]
        most = tensor.most(axis[1] - 1)
        if limits.upper.is_finite and limits.upper < NO_BOUND and not 0 < most <= limits.upper:
            upper, lower = int(limits.upper), max(1, int(limits.lower))
            line = _line_about(guards, symbol)
            declared = [-1] * len(tensor.dims)
            declared[axis[1] - 1] = upper
            allowed = "any size" if most == -1 else f"up to {most}"
            raise ConversionError(
                f"input {tensor.name}, axis {axis[1]}: the spec allows {allowed}, and the graph is right for "
                f"{lower} to {upper} only: its size in the example, {rules.example[symbol]}, decides a branch"
                f"{f' at {line}' if line else ''}\n"
                "Write the network without a branch on a size (torch.where), or declare the bound, and the "
                f"served model refuses larger ones: Tensor({tensor.name!r}, ..., max_dims={tuple(declared)})"
            )
        if limits.lower > 1:
            expression = sympy.Ge(symbol, limits.lower)
            conditions.append(Condition(printer(expression), expression, _line_about(guards, symbol)))
    return conditions


def _check_batch(spec: ModelSpec, upper: Any, line: str | None) -> None:
    """The exporter lowers a range of batch sizes by itself where a branch asks for it."""
    if upper < spec.max_batch_size:
        raise ConversionError(
            f"the graph is right for a batch of up to {upper} only, and the spec's max_batch_size is "
            f"{spec.max_batch_size}: the network branches on the batch size{f' at {line}' if line else ''}\n"
            "Write the network without that branch, or lower max_batch_size"
        )


def _line_about(guards: Guards, symbol: object) -> str | None:
    """Of the last condition that was of this symbol."""
    lines = [line for text, line in guards.lines.items() if str(symbol) in text.replace("(", " ").split()]
    return lines[-1] if lines else None


def _candidates(most: int) -> list[int]:
    sizes, size = list(range(1, min(DENSE, most) + 1)), float(DENSE)
    while (size := size * STEP) <= most:
        sizes.append(int(size))
    return sizes


def _named(expression: Any, symbol: Any, most: int) -> set[int]:
    """Sizes that the condition names: one that breaks it alone, as in size != 500, is found nowhere else."""
    sides = [(one.lhs, one.rhs) for one in expression.atoms(sympy.core.relational.Relational)]
    found = {int(number) for number in expression.atoms(sympy.Integer)}
    for lhs, rhs in sides:
        with contextlib.suppress(NotImplementedError, ValueError, TypeError):  # not all can be solved
            found |= {int(root) for root in sympy.solve(lhs - rhs, symbol) if root.is_integer}
    return {size + more for size in found for more in (-1, 0, 1) if 1 <= size + more <= most}


def _nearest(expression: Any, symbol: Any, here: int, broken: int) -> int:
    """The size next to the example's, which holds, at which the condition breaks, towards `broken`."""
    if abs(broken - here) <= DENSE:
        return broken
    good, bad = here, broken
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if _holds(expression, {symbol: middle}) else (good, middle)
    return bad


def _holds(expression: Any, values: dict[Any, int]) -> bool:
    return bool(expression.xreplace({symbol: sympy.Integer(size) for symbol, size in values.items()}))


def _odd(size: float) -> int:
    return max(1, int(size)) | 1
