"""The text of a config: parsed as Triton parses it, and where each field of it stands."""

import codecs
import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.lint.reading.encodings import config_text, wide_encoding
from export.lint.reading.release_schema import came_with, is_known, short_name

__all__ = ["ConfigSyntaxError", "Node", "locate", "read_config", "refusals"]

TOKEN = re.compile(
    r"""(?P<space>(?:[\s,;]|\#[^\n]*)+)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<open>[{<]) | (?P<close>[}>]) | (?P<list>\[) | (?P<end>\])
      | (?P<colon>:) | (?P<word>[^\s\#"'{}<>\[\]:,;]+)""",
    re.VERBOSE,
)
UNKNOWN_FIELD = re.compile(r'Message type "\w+\.([\w.]+)" has no field named "(\w+)"')
UNKNOWN_VALUE = re.compile(r'Enum type "(?:\w+\.)*(\w+)" has no value named (\w+)')
TWO_OF_ONE = re.compile(r'Field "(\w+)" is specified along with field "(\w+)"')
NOT_FOR_CONFIGS = {"TYPE_BYTES": "TYPE_STRING", "TYPE_FLOAT": "TYPE_FP32", "TYPE_DOUBLE": "TYPE_FP64"}
STRAY_BYTES = re.compile("[\udc80-\udcff]+")  # as `config_text` has them
PLACEHOLDER = re.compile(r"\$\{[^}\n]*\}|\{\{.*?\}\}|\{%.*?%\}|\$\w+")
SCHEDULERS = {"dynamic_batching", "sequence_batching", "ensemble_scheduling"}


class ConfigSyntaxError(ValueError):
    """schedulers: the two that stand in one config, if that is what is wrong."""

    def __init__(self, message: str, fix: str, line: int, schedulers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.fix, self.line, self.schedulers = fix, line, schedulers


@dataclass
class Node:
    """A field as it is written: its name, line, scalar values and fields."""

    name: str
    line: int
    values: list[str] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)

    def all(self, name: str) -> list["Node"]:
        """The fields of that name right below this one, in the text's order; several if it is repeated."""
        return [child for child in self.children if child.name == name]

    def at(self, *path: str | int) -> "Node":
        """The field of a path such as ("input", 1, "dims"), or the last of it that is written.

        An int chooses among fields of that name; a str after "parameters" or another map chooses by key.
        """
        node = self
        position = 0
        while position < len(path):
            found = node.all(str(path[position]))
            position += 1
            if position < len(path) and isinstance(index := path[position], int):
                found = found[index : index + 1]
                position += 1
            elif position < len(path) and any(child.all("key") for child in found):
                found = [child for child in found if child.scalar("key") == path[position]]
                position += 1
            if not found:
                break
            node = found[0]
        return node

    def scalar(self, name: str) -> str | None:
        """The unquoted value of a scalar field, or None if it is not written."""
        for child in self.all(name):
            if child.values:
                value = child.values[0]
                return value[1:-1] if value[:1] in ("'", '"') else value
        return None


def read_config(data: bytes) -> tuple[ModelConfig, Node]:
    """The config and where its fields stand. Raises `ConfigSyntaxError` with the line of the first fault."""
    if wide := wide_encoding(data):
        raise ConfigSyntaxError(
            f"it is {wide}, and Triton reads UTF-8",
            f"save it as UTF-8: iconv -f {wide} -t UTF-8 (PowerShell's > writes {wide})",
            1,
        )
    if data.startswith(codecs.BOM_UTF8):
        raise ConfigSyntaxError(
            "it begins with a UTF-8 byte order mark, at which Triton stops reading",
            "save it as UTF-8 without the mark: sed -i '1s/^\\xef\\xbb\\xbf//' config.pbtxt",
            1,
        )
    text = config_text(data)
    _refuse_stray_bytes(text)
    text = STRAY_BYTES.sub("?", text)  # what is left of them stands in comments
    try:
        config = text_format.Parse(text, ModelConfig())
    except text_format.ParseError as error:
        raise _explained(error, text) from error
    return config, locate(text)


def _refuse_stray_bytes(text: str) -> None:
    """Raises `ConfigSyntaxError` at the first token with bytes that are not UTF-8."""
    tokens = _Tokens(text)
    while tokens.kind:
        if found := STRAY_BYTES.search(tokens.text):
            stray = found[0].encode("utf-8", "surrogateescape").hex(" ")
            raise ConfigSyntaxError(
                f"not UTF-8 outside of a comment (hex {stray}): Triton cannot pass it on, and may abort",
                "save it as UTF-8 (iconv -f LATIN1 -t UTF-8, if it is Latin-1), or write ASCII",
                tokens.line,
            )
        tokens.next()


def refusals(source: Node, releases: Collection[str]) -> dict[str, ConfigSyntaxError]:
    """By release, the first field or value of a config that parses here but is not known there."""
    first = {
        release: found[0]
        for release in releases
        if (found := list(_unknown(source, ModelConfig.DESCRIPTOR, release)))
    }
    return {
        release: _later(*place, [other for other in first if first[other] == place])
        for release, place in first.items()
    }


def _unknown(node: Node, message: Any, release: str) -> Iterator[tuple[str, str, int]]:
    """Kind, name and line of each field and value that the release does not know."""
    entry_of_map = message.GetOptions().map_entry
    for child in node.children:
        field = message.fields_by_name[child.name]
        if not entry_of_map and not is_known(short_name(message), child.name, release):
            yield short_name(message), child.name, child.line
        if field.enum_type:
            kind = short_name(field.enum_type)
            for value in child.values:
                if value in field.enum_type.values_by_name and not is_known(kind, value, release):
                    yield kind, value, child.line
        if field.message_type:
            yield from _unknown(child, field.message_type, release)


def _later(kind: str, name: str, line: int, releases: Collection[str]) -> ConfigSyntaxError:
    """Of what the releases lack."""
    lacking = f"Triton {', '.join(releases)} {'knows' if len(releases) == 1 else 'know'} no"
    refused = f"and {'refuses' if len(releases) == 1 else 'refuse'} the whole config"
    if first := came_with(kind, name):
        message = f"{name} came with release {first}; {lacking} such field of a {kind} {refused}"
        return ConfigSyntaxError(message, f"remove it, or serve with {first} or later", line)
    fix = "remove it, or serve with a release that has it"
    return ConfigSyntaxError(f"{lacking} {name} of a {kind}, {refused}", fix, line)


def locate(text: str) -> Node:
    """The tree of fields of a text that parses; of a message in a list, the line is that of its brace."""
    root = Node("", 1)
    _read_fields(_Tokens(text), root)
    return root


class _Tokens:
    """The tokens that are no space, one ahead: kind, text and line of the next; kind is None at the end."""

    def __init__(self, text: str) -> None:
        self._text, self._position, self._line = text, 0, 1
        self.next()

    def next(self) -> str:
        """Step over the next token, whose text is returned."""
        text = getattr(self, "text", "")
        self.kind, self.text = None, ""
        while match := TOKEN.match(self._text, self._position):
            self.kind, self.text, self.line = match.lastgroup, match.group(), self._line
            self._position = match.end()
            self._line += self.text.count("\n")
            if self.kind != "space":
                return text
        self.kind = None
        return text


def _read_fields(tokens: _Tokens, parent: Node) -> None:
    while tokens.kind == "word":
        line, name = tokens.line, tokens.next()
        if tokens.kind == "colon":
            tokens.next()
        if tokens.kind == "list":
            tokens.next()
            scalars = Node(name, line)
            while tokens.kind not in ("end", None):
                if tokens.kind == "open":
                    _read_message(tokens, parent, Node(name, tokens.line))
                else:
                    scalars.values.append(tokens.next())
            tokens.next()
            if scalars.values:
                parent.children.append(scalars)
        elif tokens.kind == "open":
            _read_message(tokens, parent, Node(name, line))
        else:
            parent.children.append(Node(name, line, [tokens.next()]))
            while tokens.kind == "string":  # adjacent strings are one
                tokens.next()


def _read_message(tokens: _Tokens, parent: Node, node: Node) -> None:
    tokens.next()
    parent.children.append(node)
    _read_fields(tokens, node)
    tokens.next()


def _explained(error: text_format.ParseError, text: str) -> ConfigSyntaxError:
    line = error.GetLine() or 1
    if placeholders := _placeholders(text, line):
        return ConfigSyntaxError(
            f"it is a template that was not filled in: {placeholders}",
            "fill it in with the tool that came with it (tools/fill_template.py of TensorRT-LLM's backend, "
            "envsubst), or write the values",
            line,
        )
    message = re.sub(r"^\d+:\d+ : ('(?:.|\n)*?': )?", "", str(error)).strip().rstrip(".")
    fix = "correct the line; Triton reads text-format protobuf, and refuses the whole file at its first fault"
    schedulers: tuple[str, ...] = ()
    if found := UNKNOWN_FIELD.search(message):
        kind, name = found.groups()
        if first := came_with(kind, name):
            return ConfigSyntaxError(
                f"{name} came with release {first}; neither older ones nor the tritonclient installed "
                f"here know such a field of a {kind}",
                f"remove it, or serve with {first} or later and lint with a newer one: "
                "pip install -U tritonclient",
                line,
            )
        kind = kind.rpartition(".")[2]
        near = difflib.get_close_matches(name, _fields_of(kind), n=1, cutoff=0.5)
        fix = f"write {near[0]}" if near else "remove it, or put it where the schema has it"
        fix += f"; a {kind} has no {name}"
    elif found := UNKNOWN_VALUE.search(message):
        kind, name = found.groups()
        near = [NOT_FOR_CONFIGS[name]] if name in NOT_FOR_CONFIGS else _near_values(kind, name)
        fix = f"write {near[0]}" if near else f"choose a value of {kind}"
    elif found := TWO_OF_ONE.search(message):
        schedulers = found.groups() if set(found.groups()) <= SCHEDULERS else ()
        fix = f"keep one of {found[1]} and {found[2]}"
    return ConfigSyntaxError(message, fix, line, schedulers)


def _placeholders(text: str, line: int) -> str:
    """The one in that line, and in how many others there are more; "" where that line has none."""
    found = {
        number: match[0]
        for number, written in enumerate(text.split("\n"), 1)
        if (match := PLACEHOLDER.search(written.partition("#")[0]))
    }
    if line not in found:
        return ""
    more = len(found) - 1
    return found[line] + (f", and {more} more {'line' if more == 1 else 'lines'}" if more else "")


def _fields_of(kind: str) -> list[str]:
    message = _types(ModelConfig.DESCRIPTOR).get(kind)
    return [entry.name for entry in message.fields] if message else []


def _near_values(kind: str, name: str) -> list[str]:
    enums = {
        entry.enum_type.name: [value.name for value in entry.enum_type.values]
        for message in _types(ModelConfig.DESCRIPTOR).values()
        for entry in message.fields
        if entry.enum_type
    }
    return difflib.get_close_matches(name, enums.get(kind, []), n=1, cutoff=0.5)


def _types(descriptor: Any, known: Any = None) -> dict[str, Any]:
    known = {} if known is None else known
    if descriptor.name not in known:
        known[descriptor.name] = descriptor
        for entry in descriptor.fields:
            if entry.message_type:
                _types(entry.message_type, known)
    return known
