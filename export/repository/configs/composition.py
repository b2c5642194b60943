"""Which models a pipeline calls: changed in every place that says so, or in none.

A pipeline is an ensemble, or a model with parameters whose values are names of models, under its
`config.pbtxt` and each of its `configs/NAME.pbtxt`. Knows nothing of networks or weights.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.common.errors import ConfigError, PublishError
from export.repository.configs.contract import parse_config, read_config_text
from export.repository.configs.text import TOKEN, top_level_fields
from export.repository.publish import tell_unsigned
from server.environment.regular_files import read_regular

__all__ = ["Change", "config_files", "models_named", "use"]

CONFIG_FILE, OTHER_CONFIGS = "config.pbtxt", "configs"


@dataclass(frozen=True)
class Change:
    """A file that named `instead_of` and now names `model`, or held a copy of its file."""

    file: str
    instead_of: str
    model: str


def config_files(folder: Path) -> list[Path]:
    """Those of one model, that of Triton's default first."""
    others = sorted((folder / OTHER_CONFIGS).glob("*.pbtxt"))
    return [file for file in (folder / CONFIG_FILE, *others) if file.is_file()]


def models_named(config: ModelConfig, repository: Path) -> set[str]:
    """By the steps of an ensemble, and by parameters whose value is the name of a model of the repository."""
    values = {parameter.string_value for parameter in config.parameters.values()} - {"", config.name}
    called = {value for value in values if _is_model_name(value) and (repository / value).is_dir()}
    return called | {step.model_name for step in config.ensemble_scheduling.step}


def use(model: str, pipeline: str, repository: Path, instead_of: str | None = None) -> list[Change]:
    """Let `pipeline` call `model`; returns what was changed, nothing if it was so already.

    instead_of: the model that it called; None finds the only one with the same tensors.

    Raises `ConfigError`, and changes nothing, if a model is not there or would not fit, and `PublishError` if
    the repository cannot be written.
    """
    new = _config(repository, model)
    folder = repository / pipeline
    texts = {file: read_config_text(file) for file in config_files(folder)}
    if not texts:
        raise ConfigError(f"{folder} has no {CONFIG_FILE}; {_choices(repository)}")
    configs = {file: parse_config(text, file) for file, text in texts.items()}
    named = {name for config in configs.values() for name in models_named(config, repository)}
    old = instead_of or _replaced(new, pipeline, named - {model}, model in named, repository)
    if old is None:
        return []
    if old not in named:
        raise ConfigError(
            f"{pipeline} does not call {old}; it calls {', '.join(sorted(named)) or 'no model'}"
        )
    if problems := list(_misfits(new, _config(repository, old), configs.values())):
        raise ConfigError(f"{model} cannot stand in for {old} in {pipeline}: {'; '.join(problems)}")
    changed = {file: _renamed(text, old, model, file) for file, text in texts.items()}
    return _written(folder, {f: t for f, t in changed.items() if t != texts[f]}, old, model)


def _replaced(
    new: ModelConfig, pipeline: str, candidates: set[str], done: bool, repository: Path
) -> str | None:
    """The one of `candidates` that `new` is to replace; None if there is none and `new` is called already."""
    readable = {name for name in candidates if (repository / name / CONFIG_FILE).is_file()}
    fitting = sorted(name for name in readable if _tensors(_config(repository, name)) == _tensors(new))
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(f"{pipeline} calls {' and '.join(fitting)}; say which with --instead-of MODEL")
    if done:
        return None
    raise ConfigError(
        f"{pipeline} calls {', '.join(sorted(candidates)) or 'no model'}, none of which has the tensors of "
        f"{new.name}: {_tensors(new)}"
    )


def _misfits(new: ModelConfig, old: ModelConfig, callers: Iterable[ModelConfig]) -> Iterator[str]:
    if _tensors(new) != _tensors(old):
        yield f"its tensors are {_tensors(new)}, not {_tensors(old)}"
        return
    for tensor, other in zip((*new.input, *new.output), (*old.input, *old.output), strict=True):
        if list(tensor.dims) != list(other.dims):
            yield f"{tensor.name} has dims {list(tensor.dims)}, not {list(other.dims)}"
    most = max(caller.max_batch_size for caller in callers)
    if new.max_batch_size < most:
        yield f"its max_batch_size is {new.max_batch_size}, and the pipeline passes on up to {most}"


def _tensors(config: ModelConfig) -> str:
    def described(entries: Any) -> str:
        return ", ".join(f"{entry.name} {_type_name(entry)}" for entry in entries)

    return f"{described(config.input)} to {described(config.output)}"


def _type_name(entry: Any) -> str:
    kinds = entry.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    return kinds[entry.data_type].name.removeprefix("TYPE_")


def _renamed(text: str, old: str, new: str, source: Path) -> str:
    """`text` with the string `old` made `new` where it is the value of a step's model or of a parameter."""
    expected = parse_config(text, source)
    for step in expected.ensemble_scheduling.step:
        if step.model_name == old:
            step.model_name = new
    for parameter in expected.parameters.values():
        if parameter.string_value == old:
            parameter.string_value = new
    parts, position = [], 0
    for start, end in _values(text):
        if text[start + 1 : end - 1] == old:
            parts += [text[position:start], f'"{new}"']
            position = end
    changed = "".join((*parts, text[position:]))
    if parse_config(changed, source) != expected:
        raise ConfigError(
            f"{source} names {old} in a way that cannot be rewritten; write {new} there by hand"
        )
    return changed


def _values(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of every quoted string after `model_name:` or `string_value:`."""
    for start, end in top_level_fields(text):
        words: list[str] = []
        for token in TOKEN.finditer(text, start, end):
            if token.lastgroup == "space":
                continue
            words.append(token[0])
            if token.lastgroup == "string" and words[-3:-1] in (["model_name", ":"], ["string_value", ":"]):
                yield token.span()


def _written(folder: Path, texts: dict[Path, str], old: str, new: str) -> list[Change]:
    changes = []
    try:
        for file, text in texts.items():
            _replace(file, text.encode())
            changes.append(Change(str(file.relative_to(folder.parent)), old, new))
        for file in sorted(folder.iterdir()):  # labels, most of all: copies, or links that become copies
            before, after = (folder.parent / model / file.name for model in (old, new))
            if not after.is_file() or not _is_copy(file, before):
                continue
            if file.is_symlink() or not _is_copy(file, after):
                _replace(file, read_regular(after))
                changes.append(Change(str(file.relative_to(folder.parent)), old, new))
    except OSError as error:
        raise PublishError(f"{folder} cannot be written: {error}; run the same command again") from error
    if changes:
        tell_unsigned(folder)
    return changes


def _is_copy(file: Path, original: Path) -> bool:
    return original.is_file() and file.is_file() and read_regular(file) == read_regular(original)


def _replace(file: Path, content: bytes) -> None:
    scratch = file.with_name(f".{file.name}.new")
    scratch.write_bytes(content)
    scratch.replace(file)


def _config(repository: Path, model: str) -> ModelConfig:
    file = repository / model / CONFIG_FILE
    if not _is_model_name(model) or not file.is_file():
        raise ConfigError(f"there is no model {model!r} with a {CONFIG_FILE}; {_choices(repository)}")
    return parse_config(read_config_text(file), file)


def _is_model_name(value: str) -> bool:
    return value not in ("", ".", "..") and "/" not in value and "\0" not in value and len(value) < 256


def _choices(repository: Path) -> str:
    names = sorted(path.parent.name for path in repository.glob(f"*/{CONFIG_FILE}"))
    return f"{repository} has {', '.join(names) or 'no models'}"
