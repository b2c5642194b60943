"""TV113: what `auto_complete_config` does to the config, where it surely does what the backend refuses.

Its statements are followed in order, with what is written out as values; what is in a branch may not run,
and says nothing. The rules are those of ModelConfig in the release's triton_python_backend_utils.py.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType

from export.lint.comparison import data_type_name
from export.lint.python_checks.syntax import Definition, Problem, own_nodes
from export.lint.reading.completion import METHOD

__all__ = ["problems"]

KEYS = {"add_input": ("name", "data_type", "dims", "optional"), "add_output": ("name", "data_type", "dims")}
REQUIRED = ("name", "data_type", "dims")
METHODS = {*KEYS, "set_max_batch_size", "set_dynamic_batching", "set_model_transaction_policy", "as_dict"}
DATA_TYPES = DataType.DESCRIPTOR.values_by_name
CHANGES = {"append", "clear", "extend", "insert", "pop", "popitem", "remove", "setdefault", "update"}
UNKNOWN = object()
Values = dict[str, Any]
Step = tuple[str, Any, int]  # the method that is called, its argument or UNKNOWN, and the line


def problems(method: Definition, position: int, config: Any) -> Iterator[Problem]:
    """method: as Triton can call it; position: of the parameter that is the config."""
    given = [*method.args.posonlyargs, *method.args.args]
    own = list(own_nodes(method))
    if problem := _returned(method, own, given[position].arg if len(given) > position else ""):
        yield problem
        return
    if len(given) <= position:
        return
    name = given[position].arg
    follower = _Follower(name, own)
    steps = list(follower.steps(method.body))
    written = None if _may_be_changed(name, own) else config
    added: dict[tuple[str, str], Mapping[str, Any]] = {}
    for called, value, line in steps:
        fault = _fault(called, value, written, added)
        if fault:
            yield Problem(f"{METHOD} {fault[0]}", fault[1], line)
            return  # it ends there


def _returned(method: Definition, own: list[ast.AST], name: str) -> Problem | None:
    values = [node.value for node in own if isinstance(node, ast.Return)]
    if isinstance(method, ast.AsyncFunctionDef) or any(
        isinstance(node, ast.Yield | ast.YieldFrom) for node in own
    ):
        what = "is a coroutine or a generator"
    elif not any(value is not None and not _is_none(value) for value in values):
        what = "returns nothing"
    elif all(_is_dict(value, name) for value in values):
        what = "returns a dict"
    else:
        return None
    return Problem(
        f"{METHOD} {what}, and Triton takes the config alone, so the model is refused",
        "end it with the config that it was given: return auto_complete_model_config",
        method.lineno,
    )


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_dict(node: ast.expr | None, name: str) -> bool:
    return isinstance(node, ast.Dict) or (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "as_dict"
        and getattr(node.func.value, "id", "") == name
    )


def _may_be_changed(name: str, own: list[ast.AST]) -> bool:
    """May the written config be another than the file's: by way of its dict, or in other hands?"""
    attributes = {id(node.value) for node in own if isinstance(node, ast.Attribute)}
    returned = {id(node.value) for node in own if isinstance(node, ast.Return)}
    for node in own:
        if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.Attribute) and node.attr in CHANGES and not _grows_a_list(node):
            return True
        if isinstance(node, ast.Name) and node.id == name and id(node) not in attributes | returned:
            return True
    return False


def _grows_a_list(node: ast.Attribute) -> bool:
    return node.attr == "append" and isinstance(node.value, ast.Name)


class _Follower:
    """Runs over statements with the values of names that are written out."""

    def __init__(self, name: str, own: list[ast.AST]) -> None:
        self._name, self._values = name, Values()
        self._ended = False
        self._changed = {  # what code may change in place is not followed
            node.value.id
            for node in own
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in CHANGES
        }
        self._changed |= {
            node.value.id
            for node in own
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and not isinstance(node.ctx, ast.Load)
        }

    def steps(self, body: Iterable[ast.stmt]) -> Iterator[Step]:
        """Calls on the config that surely run, in order."""
        for statement in body:
            if self._ended:
                return
            if isinstance(statement, ast.Expr):
                yield from self._call(statement.value)
            elif isinstance(statement, ast.Assign) and all(
                isinstance(target, ast.Name) for target in statement.targets
            ):
                yield from self._call(statement.value)
                value = self._value(statement.value)
                self._forget(statement)
                if value is not UNKNOWN:
                    self._values |= {
                        target.id: value for target in statement.targets if isinstance(target, ast.Name)
                    }
            elif isinstance(statement, ast.For) and isinstance(statement.target, ast.Name):
                yield from self._loop(statement)
            elif isinstance(statement, ast.Return):
                self._ended = True
            else:
                self._pass_over(statement)

    def _loop(self, loop: ast.For) -> Iterator[Step]:
        assert isinstance(loop.target, ast.Name)
        values = self._value(loop.iter)
        leaves = any(
            isinstance(node, ast.Break | ast.Continue | ast.Return | ast.Raise) for node in ast.walk(loop)
        )
        if not isinstance(values, list | tuple) or leaves:
            self._pass_over(loop)
            return
        for value in values:
            self._values[loop.target.id] = value
            yield from self.steps(loop.body)
        self._forget(loop)

    def _pass_over(self, statement: ast.stmt) -> None:
        """It may run or not, and what it binds is not known; after a way out nothing is sure to run."""
        self._forget(statement)
        for node in ast.walk(statement):
            if isinstance(node, ast.Return | ast.Raise | ast.Break | ast.Continue):
                self._ended = True

    def _forget(self, statement: ast.stmt) -> None:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self._values.pop(node.id, None)
                if node.id == self._name:
                    self._ended = True

    def _call(self, node: ast.expr) -> Iterator[Step]:
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return
        if getattr(node.func.value, "id", "") != self._name:
            return
        given = [*node.args, *(entry.value for entry in node.keywords)]
        yield node.func.attr, self._value(given[0]) if len(given) == 1 else UNKNOWN, node.lineno

    def _value(self, node: ast.expr) -> Any:
        """Of constants, lists, tuples, dicts and names of such; else UNKNOWN, also where it is within."""
        if isinstance(node, ast.Name):
            return UNKNOWN if node.id in self._changed else self._values.get(node.id, UNKNOWN)
        if isinstance(node, ast.Dict):
            if any(key is None for key in node.keys):
                return UNKNOWN
            keys = [self._value(key) for key in node.keys if key is not None]
            if not all(isinstance(key, str) for key in keys):
                return UNKNOWN
            return dict(zip(keys, map(self._value, node.values), strict=True))
        if isinstance(node, ast.List | ast.Tuple):
            values = [self._value(entry) for entry in node.elts]
            return UNKNOWN if any(value is UNKNOWN for value in values) else _type_of(node)(values)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict" and not node.args:
            if all(entry.arg for entry in node.keywords):
                return {str(entry.arg): self._value(entry.value) for entry in node.keywords}
            return UNKNOWN
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return UNKNOWN


def _type_of(node: ast.List | ast.Tuple) -> type:
    return list if isinstance(node, ast.List) else tuple


def _fault(called: str, value: Any, config: Any, added: dict[Any, Any]) -> tuple[str, str] | None:
    """What is wrong with one call, and its remedy. config: None where it may have been changed before."""
    if called not in METHODS:
        known = ", ".join(sorted(METHODS))
        return f"calls {called}, which the config does not have", f"its methods are {known}"
    if called in KEYS and isinstance(value, dict):
        return _fault_of_tensor(called, value, config, added)
    if config is None:
        pass
    elif called == "set_max_batch_size" and isinstance(value, int) and value < config.max_batch_size:
        return (
            f"sets max_batch_size to {value}, below the {config.max_batch_size} of the config",
            "let one of them go, or make them equal",
        )
    elif called == "set_dynamic_batching":
        scheduler = config.WhichOneof("scheduling_choice")
        if scheduler not in (None, "dynamic_batching"):
            return f"sets dynamic_batching, and the config has {scheduler}", "keep one of them"
    if called == "set_model_transaction_policy" and isinstance(value, dict):
        if wrong := sorted(set(value) - {"decoupled"}):
            return f"sets {wrong[0]!r} of the transaction policy, which it lacks", "its key is 'decoupled'"
        decoupled = value.get("decoupled")
        if config is not None and config.HasField("model_transaction_policy") and decoupled in (True, False):
            written = config.model_transaction_policy.decoupled
            if written != decoupled:
                return (
                    f"sets decoupled to {decoupled}, and the config's model_transaction_policy to {written}",
                    "remove model_transaction_policy from the config, or set the same",
                )
    return None


def _fault_of_tensor(
    called: str, value: Mapping[str, Any], config: Any, added: dict[Any, Any]
) -> tuple[str, str] | None:
    kind = called.removeprefix("add_")
    name = value.get("name", UNKNOWN)
    label = f"adds the {kind} {name!r}" if isinstance(name, str) else f"adds an {kind}"
    for key in value:
        if key not in KEYS[called]:
            return (
                f"{label} with the key {key!r}, which Triton refuses",
                f"its keys are {', '.join(KEYS[called])}",
            )
    for key in REQUIRED:
        if key not in value:
            return f"{label} without {key!r}", f"give it {', '.join(REQUIRED)}"
    dims = value["dims"]
    if isinstance(dims, list | tuple) and (not dims or any(dim == 0 for dim in dims)):
        return f"{label} with dims {dims}, which Triton refuses", "give it sizes, -1 for an open dim"
    if not isinstance(name, str) or config is None:
        return None
    data_type = value["data_type"]
    if isinstance(data_type, str) and data_type not in DATA_TYPES and not (config.input or config.output):
        near = f"TYPE_{data_type}" if f"TYPE_{data_type}" in DATA_TYPES else "TYPE_FP32, TYPE_STRING, ..."
        return (
            f"{label} as {data_type!r}, which is not a type of Triton: it drops what was completed, and the "
            "model has no tensors",
            f"write {near}",
        )
    entries = config.input if kind == "input" else config.output
    written = next((entry for entry in entries if entry.name == name), None)
    if (kind, name) in added:
        known = added[kind, name]
        where = "before"
    elif written is not None:
        known = {"dims": list(written.dims) or UNKNOWN}
        if written.data_type:
            known["data_type"] = data_type_name(written.data_type)
        if kind == "input":
            known["optional"] = written.optional
        where = "in the config"
    else:
        added[kind, name] = value
        return None
    for key in ("data_type", "dims", "optional"):
        ours, theirs = value.get(key, UNKNOWN), known.get(key, UNKNOWN)
        if UNKNOWN not in (ours, theirs) and ours != theirs:
            return f"{label} with {key} {ours}, and {where} it has {theirs}", "let both be the same"
    return None
