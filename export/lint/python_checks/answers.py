"""TV113: what `execute` gives back, where every path of it does what the backend refuses."""

import ast
import builtins
from collections.abc import Iterator

from export.lint.python_checks.syntax import Definition, Problem, called, own_nodes
from export.lint.reading.completion import NOTHING
from export.lint.reading.repository import Model
from export.lint.rules import WARNING

__all__ = ["problems"]

SENDERS = ("get_response_sender", "set_release_flags")  # how a request is answered, or kept, without a return
POLICY = "set_model_transaction_policy"
LIST, OTHER, UNKNOWN = "a list", "no list", "unknown"
LEADS_ON = ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try
MADE = {  # by expressions that are no list and not None
    ast.Dict: "a dict", ast.DictComp: "a dict", ast.Tuple: "a tuple", ast.Set: "a set", ast.SetComp: "a set",
    ast.GeneratorExp: "a generator", ast.JoinedStr: "a text",
}  # fmt: skip


def problems(execute: Definition, model: Model) -> Iterator[Problem]:
    """execute: a method without decorators, with its parameters as Triton gives them."""
    source = model.python_source
    if model.completion != NOTHING and POLICY in source:
        return  # it decides as it runs
    decoupled = model.config.model_transaction_policy.decoupled
    own = list(own_nodes(execute))
    sends = any(word in source for word in SENDERS)
    milder = None if _reads(execute, own) else WARNING  # what looks at no request stands for code to come
    returns = [node for node in own if isinstance(node, ast.Return)]
    valued = [node for node in returns if not _is_none(node.value)]
    if any(isinstance(node, ast.Yield) and not _is_none(node.value) for node in own):
        yield Problem(
            "execute yields, so Triton gets a generator and every request fails",
            "send responses through request.get_response_sender()"
            if decoupled
            else "return a list with a response for each request",
            execute.lineno,
        )
    elif any(isinstance(node, ast.YieldFrom | ast.Yield) for node in own):
        return
    elif not valued:
        if not sends and not _raises(execute.body) and not _hands_on(execute, own):
            yield Problem(
                "execute returns nothing and sends nothing, so no request is ever answered",
                "send responses through request.get_response_sender()"
                if decoupled
                else "return a list with a response for each request",
                execute.lineno,
                milder,
            )
    elif decoupled:
        always = bool(valued) and len(valued) == len(returns) and isinstance(execute.body[-1], ast.Return)
        kinds = {_kind(node.value, own) for node in valued}
        answered = sends or _hands_on(execute, own)
        if always and UNKNOWN not in kinds and isinstance(execute, ast.FunctionDef):
            yield Problem(
                f"the model is decoupled, and execute returns {_made(valued[0].value, own)}: Triton takes "
                + ("None alone, and logs an error" if answered else "None alone, and fails every request"),
                "send each response through request.get_response_sender(), then return None",
                valued[0].lineno,
                WARNING if answered else milder,
            )
    elif (
        not sends and len(valued) == len(returns) and all(_kind(node.value, own) == OTHER for node in valued)
    ):
        yield Problem(
            f"execute returns {_made(valued[0].value, own)}, so every request fails",
            "return a list with a response for each request",
            valued[0].lineno,
            milder,
        )


def _parameters(execute: Definition) -> set[str]:
    """What may be the requests: all but self."""
    arguments = execute.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    given += [entry for entry in (arguments.vararg, arguments.kwarg) if entry is not None]
    return {entry.arg for entry in given[1:]}


def _reads(execute: Definition, own: list[ast.AST]) -> bool:
    requests = _parameters(execute)
    return any(isinstance(node, ast.Name) and node.id in requests for node in own)


def _raises(body: list[ast.stmt]) -> bool:
    """Does it end by an exception, which answers, outside branches?"""
    return any(
        isinstance(node, ast.Raise | ast.Assert) or (isinstance(node, LEADS_ON) and _raises(node.body))
        for node in body
    )


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _kind(node: ast.expr | None, own: list[ast.AST]) -> str:
    made = _made(node, own)
    return LIST if made == LIST else OTHER if made else UNKNOWN


def _made(node: ast.expr | None, own: list[ast.AST]) -> str:
    """What an expression, or what a name is bound to, surely is, as "a list"; "" where that is not known."""
    if isinstance(node, ast.List | ast.ListComp):
        return LIST
    if isinstance(node, ast.Constant):
        return f"the constant {node.value!r}" if node.value is not None else ""
    if isinstance(node, ast.Call):
        if called(node) in ("InferenceResponse", "Tensor"):
            return f"one {called(node)}"
        return LIST if called(node) == "list" else ""
    if isinstance(node, ast.Name):
        stored = [
            entry
            for entry in own
            if isinstance(entry, ast.Name) and entry.id == node.id and not isinstance(entry.ctx, ast.Load)
        ]
        bound = [
            entry.value
            for entry in own
            if isinstance(entry, ast.Assign) and any(target in stored for target in entry.targets)
        ]
        if not bound or len(bound) < len(stored):
            return ""
        made = {"" if isinstance(value, ast.Name) else _made(value, own) for value in bound}
        return made.pop() if len(made) == 1 else ""
    return MADE.get(type(node), "") if node is not None else ""


def _hands_on(execute: Definition, own: list[ast.AST]) -> bool:
    """May other code get hold of the requests, which could answer them?"""
    requests = _parameters(execute)
    for _ in own:  # until names of names are known, too
        before = len(requests)
        for node in own:
            for value, targets in _bindings(node):
                if _holds(value, requests):
                    if any(not isinstance(target, ast.Name | ast.Tuple | ast.List) for target in targets):
                        return True
                    requests |= {
                        one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)
                    }
        if len(requests) == before:
            break
    for node in own:
        if isinstance(node, Definition | ast.Lambda | ast.ClassDef) and any(
            isinstance(entry, ast.Name) and entry.id in requests for entry in ast.walk(node)
        ):
            return True
        if isinstance(node, ast.Call) and not _is_harmless(node):
            values = [*node.args, *(entry.value for entry in node.keywords)]
            if any(_holds(value, requests) for value in values):
                return True
    return False


def _bindings(node: ast.AST) -> Iterator[tuple[ast.expr, list[ast.expr]]]:
    if isinstance(node, ast.Assign):
        yield node.value, node.targets
    elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        yield node.iter, [node.target]
    elif isinstance(node, ast.AugAssign | ast.NamedExpr | ast.AnnAssign) and node.value is not None:
        yield node.value, [node.target]
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.context_expr, [node.optional_vars]


def _holds(value: ast.AST, requests: set[str]) -> bool:
    """Is one of them in it? What other calls than those of builtins give is not."""
    if isinstance(value, ast.Call) and not getattr(value.func, "id", ""):
        return False
    if isinstance(value, ast.Name):
        return value.id in requests
    return any(_holds(child, requests) for child in ast.iter_child_nodes(value))


def _is_harmless(call: ast.Call) -> bool:
    """A builtin, or a function of pb_utils."""
    if isinstance(call.func, ast.Attribute):
        return bool(called(call))
    return hasattr(builtins, called(call))
