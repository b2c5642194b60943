"""What checks of model.py share: calls of pb_utils, and the code that belongs to one function."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Definition", "Problem", "argument", "called", "named", "own_nodes", "text_of"]

Definition = ast.FunctionDef | ast.AsyncFunctionDef
UTILITIES = ("pb_utils", "triton_python_backend_utils")


@dataclass(frozen=True)
class Problem:
    """severity: None for that of the rule."""

    fact: str
    fix: str
    line: int | None = None
    severity: str | None = None


def named(tree: ast.AST, function: str, position: int, keyword: str) -> Iterator[tuple[ast.Call, str | None]]:
    """Calls of a function of pb_utils with the text they give as that argument; None where it is no text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and called(node) == function:
            yield node, text_of(argument(node, position, keyword))


def argument(call: ast.Call, position: int, keyword: str) -> ast.expr | None:
    """What a call gives by that keyword or at that place; None where it gives neither."""
    given = [entry.value for entry in call.keywords if entry.arg == keyword] or call.args[position:][:1]
    return given[0] if given else None


def text_of(node: ast.AST | None) -> str | None:
    """Of a text that is written out."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def called(call: ast.Call) -> str:
    """pb_utils.Tensor and Tensor alike; not torch.Tensor."""
    function = call.func
    if isinstance(function, ast.Attribute):
        owner = getattr(function.value, "id", "")
        return function.attr if owner in UTILITIES else ""
    return getattr(function, "id", "")


def own_nodes(function: Definition) -> Iterator[ast.AST]:
    """What runs when the function runs: not what functions and classes within it hold."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Definition | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
