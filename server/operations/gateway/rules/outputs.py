"""Of which outputs classes may be asked: those for which the classification extension cannot end Triton 2.51.

That is said by the models' configurations, read as text: serving needs no protobuf. Whatever cannot be
read, and what Triton completes by itself, is left out: the rules refuse what is not in the table.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ....environment.repository import config_paths, config_text, repository_models

__all__ = ["class_outputs", "write"]

TYPES = {
    f"TYPE_{name}"
    for name in (*(f"{u}INT{bits}" for u in ("", "U") for bits in (8, 16, 32, 64)), "FP32", "FP64")
}
NAME = re.compile(r"[\w.-]+", re.ASCII)
TOKEN = re.compile(
    r"""\s+ | \#[^\n]* | (?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
    | (?P<word>[\w.+-]+) | (?P<mark>[][{}<>:,;])""",
    re.VERBOSE | re.ASCII,
)
CLOSING = {"{": "}", "<": ">", "[": "]"}

Field = tuple[str, "str | list[Field]"]


def class_outputs(*repositories: Path) -> list[str]:
    """MODEL/OUTPUT of each output that has a numeric type and fixed dims, none 0, in every configuration.

    Where several repositories have a model, in those of each. Raises `RepositoryError` if there is no such
    folder or model.
    """
    found: dict[str, list[set[str]]] = {}
    for repository in repositories:
        for model in repository_models(repository):
            if NAME.fullmatch(model.name):
                found.setdefault(model.name, []).append(_outputs(repository / model.name))
    return [f"{model}/{output}" for model, fit in found.items() for output in sorted(set.intersection(*fit))]


def write(repository: Path, file: Path) -> None:
    """Write the table as a map file of HAProxy, all at once. Raises as `class_outputs`, and `OSError`."""
    lines = "".join(f"{key} classes\n" for key in class_outputs(repository))
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)
    try:
        with open(descriptor, "w", encoding="utf-8") as new:
            new.write(lines)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def _outputs(folder: Path) -> set[str]:
    """Those that are fit in each configuration of the folder: which one is served depends on the machine."""
    fit = [_fit_outputs(config_text(path)) for path in config_paths(folder)]
    return set.intersection(*fit) if fit else set()


def _fit_outputs(text: str) -> set[str]:
    try:
        tokens = _tokens(text)
        fields = list(_fields(tokens, ""))
    except (ValueError, RecursionError):  # Triton cannot read it either
        return set()
    outputs = [value for name, value in fields if name == "output" and isinstance(value, list)]
    return {name for output in outputs if (name := _fit_name(output))}


def _fit_name(output: list[Field]) -> str | None:
    values: dict[str, list[str]] = {}
    for field, value in output:
        if isinstance(value, str):
            values.setdefault(field, []).append(value)
    names, types, dims = (values.get(field, []) for field in ("name", "data_type", "dims"))
    fixed = bool(dims) and all(re.fullmatch("[1-9][0-9]*", dim, re.ASCII) for dim in dims)
    fit = (
        len(names) == 1 and len(types) == 1 and types[0] in TYPES and fixed and NAME.fullmatch(names[0][1:-1])
    )
    return names[0][1:-1] if fit else None


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if not found:
            raise ValueError(text[at])
        if found.lastgroup:
            tokens.append(found[0])
        at = found.end()
    return tokens[::-1]  # popped from its end


def _fields(tokens: list[str], closing: str) -> Iterator[Field]:
    """Fields of a message in protobuf's text format, and what ends it, taken from `tokens`."""
    while (name := _next(tokens, closing)) != closing:
        if name in ",;":
            continue
        if tokens and tokens[-1] == ":":
            tokens.pop()
        if tokens and tokens[-1] == "[":
            tokens.pop()
            while (token := _next(tokens, "]")) != "]":
                if token != ",":
                    yield name, _value(token, tokens)
        else:
            yield name, _value(_next(tokens, "}"), tokens)


def _value(token: str, tokens: list[str]) -> "str | list[Field]":
    if token not in CLOSING:
        return token
    return list(_fields(tokens, CLOSING[token]))


def _next(tokens: list[str], closing: str) -> str:
    """The next token; "" at the end of the text, where nothing is open."""
    if tokens:
        return tokens.pop()
    if closing:
        raise ValueError(f"no {closing}")
    return ""
