"""Specs in a file of the user's own: FILE.py:NAME."""

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from export.common.errors import SpecError
from export.sources.specs.spec import ModelSpec
from server.environment.regular_files import read_regular

__all__ = ["spec_of_file"]


def spec_of_file(path: Path, name: str) -> ModelSpec:
    """The ModelSpec of that name in a Python file, whatever else in the file is faulty.

    Raises `SpecError` when there is none, with the fault, and its line, that kept it from being made.
    """
    module, faults = _run(path)
    spec = vars(module).get(name)
    if isinstance(spec, ModelSpec):
        return spec
    fault = faults.get(name) or next((text for key, text in faults.items() if key.startswith("line ")), None)
    if spec is None and fault:
        raise SpecError(f"{path.name}:{name} was not made: {fault}")
    if spec is not None:
        raise SpecError(f"{path.name} has no ModelSpec {name!r}: it is {type(spec).__name__}")
    specs = [found for found, value in vars(module).items() if isinstance(value, ModelSpec)]
    raise SpecError(f"{path.name} has no ModelSpec {name!r}; it has {', '.join(specs) or 'none'}")


def _run(path: Path) -> tuple[ModuleType, dict[str, str]]:
    """The file as a module, run statement by statement: one that fails leaves the others as they are. The
    faults are under the names that their statements would have given values, with the line."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # for its own imports; last, so that it shadows nothing
    module_spec = importlib.util.spec_from_file_location(f"spec_of_{path.stem}", path)
    assert module_spec is not None  # as for every name that ends in .py
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        tree = ast.parse(read_regular(path), str(path))
    except (SyntaxError, ValueError) as error:
        raise SpecError(f"{path} is no Python that can be read: {error}") from error
    futures = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    faults: dict[str, str] = {}
    for statement in tree.body:
        code = compile(ast.Module([*futures, statement], []), str(path), "exec", dont_inherit=True)
        try:
            exec(code, vars(module))
        except Exception as error:  # whatever the user's code runs into
            # A name that is missing for an earlier fault is no fault of its own.
            known = isinstance(error, NameError) and faults.get(str(error.name))
            text = known or f"{type(error).__name__}: {error}, at {path.name}:{_line(error, path, statement)}"
            for name in _names(statement):
                faults[name] = text
    return module, faults


def _line(error: Exception, path: Path, statement: ast.stmt) -> int:
    """The innermost line of that file, in the error's traceback."""
    line, trace = statement.lineno, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _names(statement: ast.stmt) -> list[str]:
    """What the statement would have given values; a text that names nothing, for any other."""
    names = [
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    if isinstance(statement, ast.Import | ast.ImportFrom):
        names = [(alias.asname or alias.name).split(".")[0] for alias in statement.names]
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        names = [statement.name]
    return names or [f"line {statement.lineno}"]
