"""The text of `config.pbtxt`: a new contract goes in, people's policy and comments stay where they are.

The protobuf is the truth and the text only its layout: what is returned was parsed again and equals the
merge of the messages.
"""

import re

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.contract import CONTRACT_FIELDS, contract_of, merge, parse_config, print_config
from export.errors import ConfigError
from export.policy import default_policy_text
from export.spec import ModelSpec

__all__ = ["new_config_text", "updated_config_text"]

CONTRACT_COMMENT = """\
# The contract, from name to the weights parameter, is derived by `python -m export` and rewritten.
"""
POLICY_COMMENT = """\
# Everything else is policy: edit it; every export keeps it, comments included (docs/export.md).
"""

TOKEN = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<open>[{<\[]) | (?P<close>[}>\]])
      | (?P<colon>:) | (?P<separator>[,;])
      | (?P<word>[^\s\#"'{}<>\[\]:,;]+)""",
    re.VERBOSE,
)


def new_config_text(spec: ModelSpec, contract: ModelConfig) -> str:
    """The first `config.pbtxt` of a model: its contract and the default policy."""
    return f"{CONTRACT_COMMENT}{print_config(contract)}\n{POLICY_COMMENT}\n{default_policy_text(spec)}"


def updated_config_text(text: str, contract: ModelConfig, source: object) -> str:
    """`text` with the contract replaced; unchanged to the byte if the contract is the same already.

    Raises `ConfigError` when the text is no ModelConfig, or when its layout cannot be kept.
    """
    config = parse_config(text, source)
    if contract_of(config) == contract:
        return text
    merged = merge(config, contract)
    spliced = _splice(text, print_config(contract))
    if parse_config(spliced, source) != merged:
        raise ConfigError(
            f"{source}: its policy cannot be kept as it is written; write every parameter as a "
            f"`parameters {{ }}` of its own, or replace the file's text by this:\n{print_config(merged)}"
        )
    return spliced


def _splice(text: str, contract_text: str) -> str:
    kept, position, place = [], 0, None
    for start, end in _fields(text):
        if _is_contract(text[start:end]):
            kept.append(text[position:start])
            place = len(kept) if place is None else place
            position = end + 1 if text[end : end + 1] == "\n" else end  # its line goes with it
    kept.append(text[position:])
    block = CONTRACT_COMMENT + contract_text
    head, tail = ("", text) if place is None else ("".join(kept[:place]), "".join(kept[place:]))
    head = head.replace(CONTRACT_COMMENT, "")
    return head + block + (tail if place is not None else f"\n{tail}")


def _is_contract(field_text: str) -> bool:
    name = re.match(r"\w*", field_text)[0]
    if name != "parameters":
        return name in CONTRACT_FIELDS
    alone = text_format.Parse(field_text, ModelConfig())
    return contract_of(alone) == alone


def _fields(text: str) -> list[tuple[int, int]]:
    """Start and end of every top-level field of a text-format message, separators included."""
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
        before = kind
    return fields
