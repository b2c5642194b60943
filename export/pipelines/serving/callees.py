"""What a model of a repository calls, so that all of it can be loaded to try that one. Nothing is run."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from export.common.release import RELEASES
from export.lint.config_checks.variants import called
from export.lint.python_checks.names import called_models
from export.lint.reading.encodings import parse_python
from export.lint.reading.repository import Model, Repository, read_repository
from export.lint.reading.sessions import Sessions
from server.environment.regular_files import read_regular

__all__ = ["Callees", "callees"]


@dataclass(frozen=True)
class Callees:
    """names: of models in the repository; unread: models whose code makes the names of those that it calls,
    none of which could be read from it."""

    names: frozenset[str]
    unread: frozenset[str]


def callees(repository: Path, name: str) -> Callees:
    """All that `name` calls, directly or not: by an ensemble's steps, by its code (BLS), or by names that its
    code takes from its config's parameters or from texts in it."""
    with Sessions() as sessions:
        read = read_repository(repository.resolve(), sessions, tuple(RELEASES.values()))
    names: set[str] = set()
    unread: set[str] = set()
    waiting = [name]
    while waiting:
        caller = waiting.pop()
        for model in read.variants:  # under whichever of its configs it will be served
            if model.name == caller and model.readable:
                by_config, (by_code, computed) = set(called(model, read)), _by_code(model, read)
                found = (by_config | by_code) & set(read.models)
                if computed and not found:
                    unread.add(caller)
                waiting += found - names
                names |= found
    return Callees(frozenset(names - {name}), frozenset(unread))


def _by_code(model: Model, repository: Repository) -> tuple[set[str], bool]:
    """The names in a model.py, and whether it makes some as it runs: then any text in its code may be one."""
    if model.python_file is None:
        return set(), False
    trees = list(_trees(model.python_file))
    names = set[str | None]().union(*map(called_models, trees))
    written = {name for name in names if name is not None}
    if None not in names:
        return written, False
    texts = {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return written | (texts & set(repository.models)), True


def _trees(file: Path) -> Iterator[ast.Module]:
    """Of model.py and what lies beside it; what is no Python is passed over."""
    for path in sorted(file.parent.glob("*.py")):
        try:
            yield parse_python(read_regular(path))
        except (SyntaxError, ValueError, RecursionError, MemoryError, OSError):
            continue
