"""TV113 and TV117: what model.py itself proves about a Python model. It is parsed, never run."""

import ast
from collections.abc import Iterable, Iterator

from export.lint.comparison import near
from export.lint.reading.completion import NOTHING
from export.lint.reading.repository import Model, Repository
from export.lint.rules import Finding

__all__ = ["check"]

MODEL_CLASS = "TritonPythonModel"
CALLED_WITH = {"initialize": 1, "execute": 1, "finalize": 0}  # arguments after self
HIDES = {"globals", "exec", "eval", "setattr", "__getattr__", "__import__"}  # names may come from anywhere
AMBIGUOUS = ast.Pass()  # what a name is bound to that is bound twice
Definition = ast.FunctionDef | ast.AsyncFunctionDef


def check(model: Model, repository: Repository, target: str) -> Iterator[Finding]:
    """Of the newest served version."""
    path = model.model_file(model.served_versions[-1]) if model.served_versions else None
    if model.backend != "python" or model.is_handled or path is None or not path.is_file():
        return
    try:
        tree = ast.parse(model.python_source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if isinstance(error, SyntaxError | ValueError):
            line = getattr(error, "lineno", None)
            yield model.finding(
                "TV113", f"it is no Python: {error}", "correct the line", file=path, line=line
            )
        return
    for problem, fix, line in _class_problems(tree):
        yield model.finding("TV113", problem, fix, file=path, line=line)
    for problem, fix, line in (*_tensors(model, tree), *_calls(model, repository, tree)):
        yield model.finding("TV117", problem, fix, file=path, line=line)


def _class_problems(tree: ast.Module) -> Iterator[tuple[str, str, int | None]]:
    """A problem, its remedy and its line; nothing where names may come from somewhere else."""
    bound = _bound(tree.body)
    if MODEL_CLASS not in bound:
        if "*" not in bound and not _hides(tree):
            what = f"it has no class {MODEL_CLASS}" if tree.body else "it is empty"
            yield what, f"name the class that Triton is to make {MODEL_CLASS}", None
        return
    found = bound[MODEL_CLASS]
    if not isinstance(found, ast.ClassDef) or _hides(tree) or _assigned_later(tree):
        return
    methods = _methods(found, bound, set())
    if methods is None:
        return
    if "execute" not in methods:
        yield (
            f"{MODEL_CLASS} has no method execute, so every request fails",
            "define execute(self, requests), which returns a response for each request",
            found.lineno,
        )
    for name, count in CALLED_WITH.items():
        method = methods.get(name)
        if isinstance(method, Definition) and not method.decorator_list and not _takes(method, count + 1):
            given = "requests" if name == "execute" else "args"
            yield (
                f"{name} cannot be called as Triton calls it, with {count + 1} positional "
                f"argument{'s' if count else ''}",
                f"write def {name}(self{f', {given}' if count else ''})",
                method.lineno,
            )


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


def _tensors(model: Model, tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Names that requests and responses of this config never have. Not of configs that model.py completes."""
    config = model.config
    states = config.sequence_batching.state
    inputs = {entry.name for entry in (*config.input, *config.sequence_batching.control_input)}
    inputs |= {name for entry in config.batch_input for name in entry.target_name}
    inputs |= {entry.input_name for entry in states}
    outputs = {entry.name for entry in config.output}
    if model.completion != NOTHING or not inputs | outputs:
        return
    looks = any(isinstance(node, ast.Constant) and node.value is None for node in ast.walk(tree))
    used = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for call, name in _named(tree, "get_input_tensor_by_name", 1, "name"):
        if isinstance(name, str) and name not in inputs and (id(call) in used or not looks):
            yield (
                f"it reads the input {name!r}, which no request has: the config lists "
                f"{', '.join(map(repr, sorted(inputs))) or 'none'}",
                near(name, inputs) or "list it in the config, or read one that is there",
                call.lineno,
            )
    made = list(_named(tree, "Tensor", 0, "name"))
    if not made or any(_named(tree, "InferenceRequest", 0, "model_name")):
        return
    names = {name for _, name in made if name is not None}
    if any(name is None for _, name in made):
        return
    dropped = names - outputs - {entry.output_name for entry in states}
    for name in sorted(outputs - names) if dropped else ():
        yield (
            f"it never makes the output {name!r}; the tensors that it makes are "
            f"{', '.join(map(repr, sorted(names)))}, and Triton drops what the config does not list",
            "give the tensor the name of the config's output",
            made[0][0].lineno,
        )


def _calls(model: Model, repository: Repository, tree: ast.AST) -> Iterator[tuple[str, str, int]]:
    for call, name in _named(tree, "InferenceRequest", 4, "model_name"):
        if isinstance(name, str) and name not in repository.models:
            yield (
                f"it calls the model {name!r}, which is not in the repository",
                near(name, set(repository.models) - {model.name}) or "add the model",
                call.lineno,
            )


def _named(
    tree: ast.AST, function: str, position: int, keyword: str
) -> Iterator[tuple[ast.Call, str | None]]:
    """Calls of a function of pb_utils with the text they give as that argument; None where it is no text."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or _called(node) != function:
            continue
        given = [entry.value for entry in node.keywords if entry.arg == keyword] or node.args[position:][:1]
        text = given[0].value if given and isinstance(given[0], ast.Constant) else None
        yield node, text if isinstance(text, str) else None


def _called(call: ast.Call) -> str:
    """pb_utils.Tensor and Tensor alike; not torch.Tensor."""
    function = call.func
    if isinstance(function, ast.Attribute):
        owner = getattr(function.value, "id", "")
        return function.attr if owner in ("pb_utils", "triton_python_backend_utils") else ""
    return getattr(function, "id", "")
