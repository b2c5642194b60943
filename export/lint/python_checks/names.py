"""TV117: names of tensors and models in model.py that are not there."""

import ast
from collections.abc import Iterator

from export.lint.comparison import near
from export.lint.python_checks.syntax import Problem, argument, called, named, text_of
from export.lint.reading.completion import NOTHING
from export.lint.reading.repository import Model, Repository

__all__ = ["called_models", "problems"]

REQUEST = "InferenceRequest"
MODEL_NAME = (4, "model_name")
INPUTS = (2, "inputs")
OUTPUTS = (3, "requested_output_names")


def problems(model: Model, repository: Repository, tree: ast.AST) -> Iterator[Problem]:
    """Of the model's own tensors, of the models that it calls, and of theirs."""
    yield from _own_tensors(model, tree)
    yield from _calls(model, repository, tree)


def called_models(tree: ast.AST) -> set[str | None]:
    """The names of models that a model.py calls; None is among them where it makes one as it runs."""
    return {name for _, name in named(tree, REQUEST, *MODEL_NAME)}


def _own_tensors(model: Model, tree: ast.AST) -> Iterator[Problem]:
    """Names that requests and responses of this config never have. Not of configs that model.py completes."""
    config = model.config
    states = config.sequence_batching.state
    inputs = {entry.name for entry in (*config.input, *config.sequence_batching.control_input)}
    inputs |= {name for entry in config.batch_input for name in entry.target_name}
    inputs |= {entry.input_name for entry in states}
    outputs = {entry.name for entry in config.output}
    if model.completion != NOTHING or not inputs | outputs:
        return
    for call, name in _looked_up(tree, "get_input_tensor_by_name"):
        if name not in inputs:
            yield Problem(
                f"it reads the input {name!r}, which no request has: the config lists "
                f"{', '.join(map(repr, sorted(inputs))) or 'none'}",
                near(name, inputs) or "list it in the config, or read one that is there",
                call.lineno,
            )
    made = list(named(tree, "Tensor", 0, "name"))
    if not made or called_models(tree):
        return
    names = {name for _, name in made if name is not None}
    if any(name is None for _, name in made):
        return
    dropped = names - outputs - {entry.output_name for entry in states}
    for name in sorted(outputs - names) if dropped else ():
        yield Problem(
            f"it never makes the output {name!r}; the tensors that it makes are "
            f"{', '.join(map(repr, sorted(names)))}, and Triton drops what the config does not list",
            "give the tensor the name of the config's output",
            made[0][0].lineno,
        )


def _looked_up(tree: ast.AST, function: str) -> Iterator[tuple[ast.Call, str]]:
    """Tensors that are looked up by a written name and must be there: what is compared with None need not."""
    looks = any(isinstance(node, ast.Constant) and node.value is None for node in ast.walk(tree))
    used = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for call, name in named(tree, function, 1, "name"):
        if name is not None and (id(call) in used or not looks):
            yield call, name


def _calls(model: Model, repository: Repository, tree: ast.AST) -> Iterator[Problem]:
    answered: set[str] | None = set()  # by the models that it calls; None where that is not known
    for call, name in named(tree, REQUEST, *MODEL_NAME):
        if name is not None and name not in repository.models:
            yield Problem(
                f"it calls the model {name!r}, which is not in the repository",
                near(name, set(repository.models) - {model.name}) or "add the model",
                call.lineno,
            )
        other = repository.models.get(name or "")
        signature = other.signature if other is not None and other.readable else None
        if signature is None or signature.more or signature.outputs is None:
            answered = None
        elif answered is not None:
            answered |= set(signature.outputs)
        if signature is None or signature.more:
            continue
        if signature.inputs is not None:
            required = {key for key, entry in signature.inputs.items() if not entry.optional}
            yield from _sent(call, str(name), set(signature.inputs), required, tree)
        if signature.outputs is not None:
            yield from _asked(call, str(name), set(signature.outputs))
    for call, name in _looked_up(tree, "get_output_tensor_by_name") if answered else ():
        if name not in (answered or ()):
            yield Problem(
                f"it looks up the output {name!r}, which no model that it calls has: they have "
                f"{', '.join(map(repr, sorted(answered or ())))}",
                near(name, answered or ()) or "look up one that is there",
                call.lineno,
            )


def _sent(
    call: ast.Call, name: str, inputs: set[str], required: set[str], tree: ast.AST
) -> Iterator[Problem]:
    given = argument(call, *INPUTS)
    if not isinstance(given, ast.List):
        return
    sent = [_names_of_tensor(entry, tree) for entry in given.elts]
    for names in sent:
        if names is not None and not names & inputs:
            wrong = min(names)
            yield Problem(
                f"it sends {wrong!r} to {name!r}, whose inputs are {', '.join(map(repr, sorted(inputs)))}",
                near(wrong, inputs) or "send what the model takes",
                call.lineno,
            )
    known = [names for names in sent if names is not None]
    if len(known) < len(sent) or any(not names & inputs for names in known):
        return
    if missing := sorted(required.difference(*known)):
        yield Problem(
            f"it calls {name!r} without its input {missing[0]!r}", "send all that it takes", call.lineno
        )


def _asked(call: ast.Call, name: str, outputs: set[str]) -> Iterator[Problem]:
    given = argument(call, *OUTPUTS)
    for entry in given.elts if isinstance(given, ast.List | ast.Tuple) else ():
        asked = text_of(entry)
        if asked is not None and asked not in outputs:
            yield Problem(
                f"it asks {name!r} for {asked!r}, whose outputs are {', '.join(map(repr, sorted(outputs)))}",
                near(asked, outputs) or "ask for what the model answers",
                call.lineno,
            )


def _names_of_tensor(node: ast.expr, tree: ast.AST) -> set[str] | None:
    """What a tensor may be called; None where that is not written out."""
    if isinstance(node, ast.Call):
        places = {"Tensor": (0, "name"), "get_input_tensor_by_name": (1, "name")}
        place = places.get(called(node))
        name = text_of(argument(node, *place)) if place else None
        return None if name is None else {name}
    if not isinstance(node, ast.Name):
        return None
    stored = [
        entry
        for entry in ast.walk(tree)
        if isinstance(entry, ast.Name) and entry.id == node.id and not isinstance(entry.ctx, ast.Load)
    ]
    values = [
        entry.value
        for entry in ast.walk(tree)
        if isinstance(entry, ast.Assign) and any(target in stored for target in entry.targets)
    ]
    if not values or len(values) < len(stored) or any(not isinstance(value, ast.Call) for value in values):
        return None
    if any(isinstance(entry, ast.arg) and entry.arg == node.id for entry in ast.walk(tree)):
        return None
    names: set[str] = set()
    for value in values:
        found = _names_of_tensor(value, tree)
        if found is None:
            return None
        names |= found
    return names
