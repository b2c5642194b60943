"""A tuned policy goes into the text of config.pbtxt: only what differs is replaced, comments stay.

As with exports, the protobuf is the truth and the text its layout: what is returned was parsed again and is
the policy asked for, with the contract as it was.
"""

import difflib
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

from google.protobuf import text_format
from google.protobuf.message import Message
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.common.errors import ConfigError
from export.lint import Finding, lint
from export.repository.configs.contract import (
    CONTRACT_FIELDS,
    contract_of,
    parse_config,
    print_config,
    read_config_text,
)
from export.repository.configs.text import TOKEN, field_name, top_level_fields
from export.repository.publish import CONFIG_FILE, publish
from perf.harness.errors import PerfError
from perf.harness.serving import THREADS_KEY
from perf.tuning.policy import SPINNING_KEY, Policy, apply, batcher, scheduler_of

__all__ = [
    "NOTE",
    "completed_text",
    "difference",
    "edited_text",
    "new_findings",
    "policy_text",
    "write_config",
]

NOTE = "# Tuned: "
POLICY_FIELDS = ("instance_group", "dynamic_batching", "sequence_batching")
BATCHING_FIELDS = ("preferred_batch_size", "max_queue_delay_microseconds")


def completed_text(text: str, served: ModelConfig, source: object) -> str:
    """`text`, to which what Triton completed by itself is added if it lists no tensors; "" for no file.

    Triton completes nothing beside tensors that are listed, so what a policy needs has to be written, too.
    Raises `ConfigError` when the text is no ModelConfig.
    """
    written = parse_config(text, source)
    if written.input and written.output:
        return text
    added = ModelConfig()
    for field in (*CONTRACT_FIELDS, "dynamic_batching"):
        if not _is_written(written, field) and _is_written(served, field):
            added.MergeFrom(_alone(served, field))
    return "\n".join(part for part in (text.rstrip("\n"), print_config(added)) if part)


def edited_text(text: str, policy: Policy, source: object, note: str = "") -> str:
    """`text` with `policy`, unchanged to the byte if it has it already.

    note: one line that says where the policy comes from; it takes the place of the last one.
    Raises `ConfigError` when the text is no ModelConfig, or when its layout cannot be kept.
    """
    config = parse_config(text, source)
    wanted = apply(policy, config)
    if wanted == config:
        return text
    edited = text
    if list(wanted.instance_group) != list(config.instance_group):
        block = print_config(ModelConfig(instance_group=wanted.instance_group))
        edited = _replaced(edited, lambda field: field_name(field) == "instance_group", block)
    for key in (THREADS_KEY, SPINNING_KEY):
        if _parameter(wanted, key) != _parameter(config, key):
            edited = _with_parameter(edited, key, _parameter(wanted, key))
    edited = _with_batching(edited, config, wanted)
    edited = _with_note(edited, note) if note else edited
    if parse_config(edited, source) != wanted or contract_of(wanted) != contract_of(config):
        raise ConfigError(
            f"{source}: its layout cannot be kept; to have the tuned policy, write its policy as\n"
            + policy_text(policy, config)
        )
    return edited


def policy_text(policy: Policy, config: ModelConfig) -> str:
    """The fields that `policy` sets, as text that can be pasted into a config.pbtxt."""
    wanted, alone = apply(policy, config), ModelConfig()
    alone.instance_group.extend(wanted.instance_group)
    for key in (THREADS_KEY, SPINNING_KEY):
        if key in wanted.parameters:
            alone.parameters[key].CopyFrom(wanted.parameters[key])
    written = batcher(wanted)
    if written is not None:
        kept = alone.dynamic_batching
        if scheduler_of(wanted) == "sequence_batching":
            alone.ClearField("dynamic_batching")
            kept = alone.sequence_batching.oldest
        kept.SetInParent()
        for field in BATCHING_FIELDS:
            _copy(written, kept, field)
    return print_config(alone)


def difference(before: str, after: str, path: Path) -> str:
    """A unified diff."""
    lines = difflib.unified_diff(
        before.splitlines(True), after.splitlines(True), f"{path} (before)", f"{path} (after)"
    )
    return "".join(lines)


def new_findings(repository: Path, model: str, text: str) -> list[Finding]:
    """What `export lint` says about a model with this config.pbtxt that it does not say now."""
    known = {(finding.code, finding.message) for finding in lint(repository) if finding.model == model}
    with tempfile.TemporaryDirectory() as scratch:
        for folder in sorted(Path(repository).resolve().iterdir()):
            if folder.name != model:
                (Path(scratch) / folder.name).symlink_to(folder)
                continue
            (Path(scratch) / model).mkdir()
            for path in folder.iterdir():
                if path.name != CONFIG_FILE:
                    (Path(scratch) / model / path.name).symlink_to(path)
            (Path(scratch) / model / CONFIG_FILE).write_text(text)
        found = [
            finding
            for finding in lint(scratch)
            if finding.model == model and finding.code != "TV316"  # how much may wait is the owner's to say
        ]
    return [finding for finding in found if (finding.code, finding.message) not in known]


def write_config(repository: Path, model: str, before: str, after: str) -> None:
    """Put `after` in the place of `before`, at once.

    Raises `PerfError` if the linter finds something new in it, or if the file is not `before` any more.
    """
    path = Path(repository) / model / CONFIG_FILE
    if found := new_findings(repository, model, after):
        told = "; ".join(f"{finding.code} {finding.message}" for finding in found)
        raise PerfError(f"the tuned config of {model} was not written, as the linter refuses it: {told}")
    if (read_config_text(path) if path.is_file() else "") != before:
        raise PerfError(f"{path} was changed while it was tuned, and is left as it is; tune again")
    publish(path.parent, {CONFIG_FILE: after}, None)


def _is_written(config: ModelConfig, field: str) -> bool:
    return field in {descriptor.name for descriptor, _ in config.ListFields()}


def _alone(config: ModelConfig, field: str) -> ModelConfig:
    alone = ModelConfig()
    alone.CopyFrom(config)
    for descriptor, _ in config.ListFields():
        if descriptor.name != field:
            alone.ClearField(descriptor.name)
    return alone


def _parameter(config: ModelConfig, key: str) -> str | None:
    return config.parameters[key].string_value if key in config.parameters else None


def _with_parameter(text: str, key: str, value: str | None) -> str:
    """With `value` for a parameter, beside the others that are written in the same field."""

    def holds(field: str) -> bool:
        return field_name(field) == "parameters" and key in text_format.Parse(field, ModelConfig()).parameters

    config = ModelConfig()
    for start, end in top_level_fields(text):
        if holds(text[start:end]):
            text_format.Merge(text[start:end], config)
    config.parameters.pop(key, None)
    if value is not None:
        config.parameters[key].string_value = value
    return _replaced(text, holds, print_config(config))


def _with_batching(text: str, config: ModelConfig, wanted: ModelConfig) -> str:
    before, after = batcher(config), batcher(wanted)
    if before == after:
        return text
    if after is None:
        return _replaced(text, lambda field: field_name(field) == "dynamic_batching", "")
    path: tuple[str, ...] = ("dynamic_batching",)
    if scheduler_of(wanted) == "sequence_batching":
        path = ("sequence_batching", "oldest")
    elif before is None:
        block = print_config(ModelConfig(dynamic_batching=after)) or "dynamic_batching {\n}\n"
        return _replaced(text, lambda field: field_name(field) == "dynamic_batching", block)
    for name in BATCHING_FIELDS:
        if getattr(before, name) != getattr(after, name):
            alone = type(after)()
            _copy(after, alone, name)
            text = _inside(text, path, name, print_config(alone))
    return text


def _inside(text: str, path: tuple[str, ...], name: str, block: str) -> str:
    """`block` for the fields `name` of the message that `path` leads to; an unknown path changes nothing."""
    if not path:
        return _replaced(text, lambda field: field_name(field) == name, block)
    for start, end in top_level_fields(text):
        if field_name(text[start:end]) == path[0]:
            opened = next(m.end() for m in TOKEN.finditer(text, start, end) if m.lastgroup == "open")
            closed = max(text.rfind(bracket, start, end) for bracket in "}>")
            body = _inside(text[opened:closed], path[1:], name, block)
            if len(path) == 1 and "\n" in body and not body[body.rfind("\n") :].isspace():
                body += "\n" + _indentation(text, start)  # one-line messages that have got a line more
            return text[:opened] + body + text[closed:]
    return text


def _replaced(text: str, ours: Callable[[str], bool], block: str) -> str:
    """`block` where the first of our fields was, or else at the end; comments inside them come before."""
    block = block.rstrip("\n")
    fields = [(start, end) for start, end in top_level_fields(text) if ours(text[start:end])]
    if not fields:
        indentation = next((_indentation(text, start) for start, _ in top_level_fields(text)), "")
        body, space = text.rstrip(), text[len(text.rstrip()) :]
        gap = "\n\n" if body and not indentation else "\n" if body or space else ""
        last = space[space.rfind("\n") :] if "\n" in space else "\n"
        return body + gap + textwrap.indent(block, indentation) + last if block else text
    comments = [line for start, end in fields for line in _comments(text[start:end])]
    for start, end in reversed(fields[1:] if block else fields):
        text = _without(text, start, end)
    if not block:
        return text
    start, end = fields[0]
    indentation = _indentation(text, start)
    lines = ("\n" + indentation).join([*comments, *block.splitlines()])
    return text[:start] + lines + text[end:]


def _comments(field: str) -> list[str]:
    spaces = (match[0] for match in TOKEN.finditer(field) if match.lastgroup == "space")
    return [line.strip() for space in spaces for line in space.splitlines() if line.strip().startswith("#")]


def _without(text: str, start: int, end: int) -> str:
    """Without a field, and without its line if nothing else is on it."""
    head, tail = text[:start].rstrip(" \t"), text[end:]
    if head.endswith("\n") and tail.lstrip(" \t").startswith("\n"):
        return head + tail.lstrip(" \t")[1:]
    return head + tail


def _indentation(text: str, start: int) -> str:
    before = text[text.rfind("\n", 0, start) + 1 : start]
    return before if before.isspace() else ""


def _with_note(text: str, note: str) -> str:
    """The note above the first field of the policy, and no older one anywhere."""
    text = "".join(line for line in text.splitlines(True) if not line.startswith(NOTE))
    starts = [start for start, end in top_level_fields(text) if field_name(text[start:end]) in POLICY_FIELDS]
    place = text.rfind("\n", 0, starts[0]) + 1 if starts else len(text)
    return f"{text[:place]}{NOTE}{note}\n{text[place:]}"


def _copy(source: Message, target: Message, field: str) -> None:
    value = getattr(source, field)
    if isinstance(value, int):
        setattr(target, field, value)
    else:
        getattr(target, field)[:] = value
