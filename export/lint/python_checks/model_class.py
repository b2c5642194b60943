"""TV113 and TV117: what model.py itself proves about a Python model. It is parsed, never run."""

import ast
from collections.abc import Iterable, Iterator

from export.lint.python_checks import answers, completing, names
from export.lint.python_checks.syntax import Definition, Problem
from export.lint.reading.completion import METHOD
from export.lint.reading.encodings import parse_python
from export.lint.reading.repository import Model, Repository
from export.lint.rules import WARNING, Finding
from server.environment.regular_files import read_regular

__all__ = ["check"]

MODEL_CLASS = "TritonPythonModel"
CALLED_WITH = {"initialize": 1, "execute": 1, "finalize": 0}  # arguments after self
UNLOADS = "finalize"
HIDES = {"globals", "exec", "eval", "setattr", "__getattr__", "__import__"}  # names may come from anywhere
AMBIGUOUS = ast.Pass()  # what a name is bound to that is bound twice


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """Of the newest served version."""
    path = model.python_file
    if path is None:
        return
    try:
        tree = parse_python(read_regular(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, SyntaxError | ValueError):
            line = getattr(error, "lineno", None)
            yield model.finding(
                "TV113",
                f"it is no Python: {getattr(error, 'msg', error)}",
                "correct the line" if line else "save it as UTF-8, or write a coding line that it keeps to",
                file=path,
                line=line,
            )
        return
    for problem in _class_problems(model, tree):
        yield model.finding(
            "TV113", problem.fact, problem.fix, file=path, line=problem.line, severity=problem.severity
        )
    for problem in names.problems(model, repository, tree):
        yield model.finding("TV117", problem.fact, problem.fix, file=path, line=problem.line)


def _class_problems(model: Model, tree: ast.Module) -> Iterator[Problem]:
    """Nothing where names may come from somewhere else."""
    bound = _bound(tree.body)
    if MODEL_CLASS not in bound:
        if "*" not in bound and not _hides(tree):
            what = f"it has no class {MODEL_CLASS}" if tree.body else "it is empty"
            yield Problem(what, f"name the class that Triton is to make {MODEL_CLASS}")
        return
    found = bound[MODEL_CLASS]
    if not isinstance(found, ast.ClassDef) or _hides(tree) or _assigned_later(tree):
        return
    methods = _methods(found, bound, set())
    if methods is None:
        return
    if "execute" not in methods:
        yield Problem(
            f"{MODEL_CLASS} has no method execute, so every request fails",
            "define execute(self, requests), which returns a response for each request",
            found.lineno,
        )
    for name, count in CALLED_WITH.items():
        method = methods.get(name)
        if not isinstance(method, Definition) or method.decorator_list:
            continue
        if not _takes(method, count + 1):
            given = "requests" if name == "execute" else "args"
            yield Problem(
                f"{name} cannot be called as Triton calls it, with {count + 1} positional "
                f"argument{'s' if count else ''}"
                + (": it does not run when the model is unloaded" if name == UNLOADS else ""),
                f"write def {name}(self{f', {given}' if count else ''})",
                method.lineno,
                WARNING if name == UNLOADS else None,
            )
        elif name == "execute":
            yield from answers.problems(method, model)
    completes = methods.get(METHOD)
    if isinstance(completes, Definition):
        yield from _completes(completes, model)


def _completes(method: Definition, model: Model) -> Iterator[Problem]:
    """Triton calls it on the class, with the config alone."""
    decorators = [getattr(decorator, "id", "") for decorator in method.decorator_list]
    if decorators not in ([], ["staticmethod"], ["classmethod"]):
        return
    bound = decorators == ["classmethod"]
    if not _takes(method, 1 + bound):
        yield Problem(
            f"{METHOD} cannot be called as Triton calls it, on the class and with the config alone",
            f"write @staticmethod above def {METHOD}(auto_complete_model_config)",
            method.lineno,
        )
    else:
        yield from completing.problems(method, int(bound), model.config)


def _bound(body: Iterable[ast.stmt]) -> dict[str, ast.AST]:
    """What each name of a module or class is bound to, in branches, too; "*" for a star import."""
    names: dict[str, ast.AST] = {}
    for node in body:
        if isinstance(node, ast.ClassDef | Definition):
            here: dict[str, ast.AST] = {node.name: node}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            here = {(alias.asname or alias.name.partition(".")[0]): node for alias in node.names}
        else:
            targets = [target for target in ast.walk(node) if isinstance(target, ast.Name)]
            here = {target.id: target for target in targets if isinstance(target.ctx, ast.Store)}
            inner = list(ast.iter_child_nodes(node))
            inner += [line for child in inner for line in getattr(child, "body", ()) if _is_branch(child)]
            here |= _bound([child for child in inner if isinstance(child, ast.stmt)])
        for name, what in here.items():
            names[name] = AMBIGUOUS if name in names else what
    return names


def _is_branch(node: ast.AST) -> bool:
    return isinstance(node, ast.ExceptHandler | ast.match_case)


def _methods(found: ast.ClassDef, bound: dict[str, ast.AST], seen: set[str]) -> dict[str, ast.AST] | None:
    """By name, those of its bases included; None where they are not all to be seen here."""
    if found.decorator_list or found.keywords or found.name in seen:
        return None
    methods: dict[str, ast.AST] = {}
    for base in reversed(found.bases):
        name = base.id if isinstance(base, ast.Name) else ""
        if name == "object" and name not in bound:
            continue
        parent = bound.get(name)
        inherited = _methods(parent, bound, seen | {found.name}) if isinstance(parent, ast.ClassDef) else None
        if inherited is None:
            return None
        methods |= inherited
    return methods | _bound(found.body)


def _hides(tree: ast.AST) -> bool:
    return any(
        getattr(node, "id", "") in HIDES or getattr(node, "name", "") in HIDES for node in ast.walk(tree)
    )


def _assigned_later(tree: ast.AST) -> bool:
    """TritonPythonModel.execute = ..., wherever it stands."""
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and node.attr in CALLED_WITH
        for node in ast.walk(tree)
    )


def _takes(method: Definition, count: int) -> bool:
    arguments = method.args
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    named = any(default is None for default in arguments.kw_defaults)
    return required <= count and (count <= positional or bool(arguments.vararg)) and not named
