"""The text of `config.pbtxt`: a new contract goes in, people's policy and comments stay where they are.

The protobuf is the truth and the text only its layout: what is returned was parsed again and equals the
merge of the messages.
"""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelSequenceBatching

from export.common.errors import ConfigError
from export.repository.configs.contract import CONTRACT_FIELDS, contract_of, merge, parse_config, print_config
from export.repository.configs.policy import default_policy_text
from export.sources.specs.spec import ModelSpec

__all__ = [
    "TOKEN",
    "field_name",
    "new_config_text",
    "new_policy_text",
    "top_level_fields",
    "updated_config_text",
]

CONTRACT_COMMENT = """\
# The contract, from name to the weights parameter, is derived by `python -m export` and rewritten.
"""
STATES_COMMENT = """\
# The states belong to the contract: derived and rewritten, too.
"""
POLICY_COMMENT = """\
# Everything else is policy: edit it; every export keeps it, comments included (docs/reference/export.md).
"""

TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<open>[{<\[]) | (?P<close>[}>\]])
      | (?P<colon>:) | (?P<separator>[,;])
      | (?P<word>[^\s\#"'{}<>\[\]:,;]+)""",
    re.VERBOSE,
)


def new_config_text(
    spec: ModelSpec, contract: ModelConfig, sizes: Mapping[str, Sequence[int]] | None = None
) -> str:
    """The first `config.pbtxt` of a model: its contract and the default policy, `sizes` as there."""
    return f"{_contract_block(contract)}\n{_with_states(new_policy_text(spec, sizes), contract)}"


def new_policy_text(spec: ModelSpec, sizes: Mapping[str, Sequence[int]] | None = None) -> str:
    """What follows the contract there, states apart."""
    return f"{POLICY_COMMENT}\n{default_policy_text(spec, sizes)}"


def updated_config_text(text: str, contract: ModelConfig, source: object) -> str:
    """`text` with the contract replaced; unchanged to the byte if the contract is the same already.

    Raises `ConfigError` when the text is no ModelConfig, or when its layout cannot be kept.
    """
    config = parse_config(text, source)
    if contract_of(config, contract.parameters) == contract:
        return text
    if contract.sequence_batching.state and not config.HasField("sequence_batching"):
        raise ConfigError(
            f"{source} has no sequence_batching, where the model's states belong: write "
            "`sequence_batching { oldest { } }` instead of dynamic_batching, or remove the file to start anew"
        )
    merged = merge(config, contract)
    spliced = _with_states(_with_contract(text, contract), contract)
    if parse_config(spliced, source) != merged:
        raise ConfigError(
            f"{source}: its policy cannot be kept as it is written; write every parameter as a "
            f"`parameters {{ }}` of its own, or replace the file's text by this:\n{print_config(merged)}"
        )
    return spliced


def _with_contract(text: str, contract: ModelConfig) -> str:
    """All but the states, as one block where the first field of the contract was, or else at the top."""
    block = _contract_block(contract)
    cut = _cut(text, lambda field: _is_contract(field, contract))
    if cut is None:
        return f"{block}\n{text}"
    head, tail = cut
    return _line(head.replace(CONTRACT_COMMENT, "")) + block + tail


def _with_states(text: str, contract: ModelConfig) -> str:
    """The states inside `sequence_batching`, where the first was, or else at its end."""
    states = ModelSequenceBatching(state=contract.sequence_batching.state)
    block = textwrap.indent(STATES_COMMENT + print_config(states), "  ") if states.state else ""
    for start, end in top_level_fields(text):
        if field_name(text[start:end]) == "sequence_batching":
            opened = next(m.end() for m in TOKEN.finditer(text, start, end) if m.lastgroup == "open")
            closed = max(text.rfind(bracket, start, end) for bracket in "}>")
            body = text[opened:closed]
            head, tail = _cut(body, lambda field: field_name(field) == "state") or (body.rstrip(" \t"), "")
            head = head.replace(textwrap.indent(STATES_COMMENT, "  "), "")
            return text[:opened] + _line(head) + block + tail + text[closed:]
    return text


def _contract_block(contract: ModelConfig) -> str:
    stateless = ModelConfig()
    stateless.CopyFrom(contract)
    stateless.ClearField("sequence_batching")
    return CONTRACT_COMMENT + print_config(stateless)


def _cut(text: str, ours: Callable[[str], bool]) -> tuple[str, str] | None:
    """What is before the first of our fields, and what is after it without them; None if there is none."""
    kept, position, place = [], 0, None
    for start, end in top_level_fields(text):
        if ours(text[start:end]):
            kept.append(text[position:start].rstrip(" \t"))  # its indentation and its line go with it
            place = len(kept) if place is None else place
            position = end + 1 if text[end : end + 1] == "\n" else end
    kept.append(text[position:])
    return None if place is None else ("".join(kept[:place]), "".join(kept[place:]))


def _line(text: str) -> str:
    """`text` with its last line ended."""
    return text if not text or text.endswith("\n") else f"{text}\n"


def _is_contract(field_text: str, contract: ModelConfig) -> bool:
    if field_name(field_text) != "parameters":
        return field_name(field_text) in CONTRACT_FIELDS
    alone = text_format.Parse(field_text, ModelConfig())
    return contract_of(alone, contract.parameters) == alone


def field_name(field_text: str) -> str:
    """Of a field as `top_level_fields` found it."""
    found = re.match(r"\w*", field_text)
    return found[0] if found else ""


def top_level_fields(text: str) -> list[tuple[int, int]]:
    """Start and end of every top-level field of a text-format message, separators included, comments not."""
    fields: list[tuple[int, int]] = []
    depth = position = 0
    start = None
    before = ""  # kind of the last token that is neither space nor comment
    while match := TOKEN.match(text, position):
        kind, position = match.lastgroup, match.end()
        if kind == "space":
            continue
        begins = depth == 0 and kind == "word" and before != "colon"
        if begins:
            start = match.start()
        depth += (kind == "open") - (kind == "close")
        if start is not None and depth == 0 and not begins and kind != "colon":
            if before in ("word", "string", "close") and kind in ("separator", "string"):
                fields.pop()  # the field goes on: `name: "a" "b",`
            fields.append((start, position))
        before = kind or ""
    return fields
