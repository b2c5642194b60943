"""The folder of a detection pipeline: its configurations and labels; its code are copies
(export.repository.copies).

It is written after its detector, so that a repository without the one, as where its weights cannot be
fetched, has not the other either (docs/decisions/0038).
"""

from pathlib import Path
from string import Template

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from export.common.detections import is_pipeline
from export.common.errors import ConfigError, PublishError, SpecError
from export.repository.configs.contract import LABELS_FILE, parse_config, read_config_text
from export.repository.configs.text import TOKEN, field_name, top_level_fields
from export.repository.publish import CONFIG_FILE
from export.sources.specs.detection import Detection
from server.environment.regular_files import read_regular

__all__ = ["check_place", "is_detection", "write_configs"]

TEMPLATES = {CONFIG_FILE: "config.pbtxt", "configs/cpu.pbtxt": "cpu.pbtxt"}
FOLLOWS = ("width", "height", "fit", "family")  # those that are the detector's, whatever people write there
OF_FAMILY = ("score_threshold", "iou_threshold")  # those that are people's, until the family is another
VALUES = ("name", "detector", "detector_batch", *FOLLOWS, *OF_FAMILY)


def is_detection(folder: Path) -> bool:
    """Whether that model is such a pipeline, by its configuration."""
    path = folder / CONFIG_FILE
    if folder.name.startswith(".") or not path.is_file():
        return False
    try:
        config = parse_config(read_config_text(path), path)
    except (ConfigError, OSError):
        return False
    return is_pipeline(config)


def check_place(name: str, repository: Path) -> None:
    """Raises `SpecError` where a pipeline of that name would overwrite a model of another kind."""
    folder = repository / name
    if (folder / CONFIG_FILE).is_file() and not is_detection(folder):
        raise SpecError(f"{folder} holds a model of another kind: publish the detector under another name")


def write_configs(detection: Detection, repository: Path) -> tuple[list[Path], list[str]]:
    """Write what is not there; in what is, the detector's own parameters alone. What else somebody has edited
    stays, thresholds too, unless the detector is of another family.

    Returns what was written, and what a user is to know. Raises `ConfigError`, `PublishError`, and
    `SpecError` where a model of another kind has its name.
    """
    check_place(detection.name, repository)
    folder, written, notes = repository / detection.name, [], []
    try:
        for name, text in _texts(detection).items():
            file = folder / name
            if file.is_file():
                found = read_regular(file).decode(errors="replace")
                if file.suffix == ".pbtxt":
                    text, told = _followed(found, text, file, detection.detector_batch, repository)
                    notes += told
                elif _other(_parameters(folder / CONFIG_FILE), detection.detector, repository):
                    continue
                if found == text:
                    continue
            file.parent.mkdir(parents=True, exist_ok=True)
            scratch = file.with_name(f".{file.name}.new")
            scratch.write_bytes(text.encode())
            scratch.replace(file)
            written.append(file)
    except OSError as error:
        raise PublishError(f"{folder} cannot be written: {error}; run the same command again") from error
    return written, list(dict.fromkeys(notes))


def _parameters(file: Path, text: str | None = None) -> dict[str, str]:
    """Of a configuration; of one that is not there, none."""
    if text is None:
        text = read_config_text(file) if file.is_file() else ""
    return {name: value.string_value for name, value in parse_config(text, file).parameters.items()}


def _other(parameters: dict[str, str], detector: str, repository: Path) -> str:
    """Another detector of the repository that is called, as `python -m export use` puts one there; or ""."""
    called = parameters.get("detector", "")
    return called if called not in ("", detector) and (repository / called / CONFIG_FILE).is_file() else ""


def _texts(detection: Detection) -> dict[str, str]:
    """The files of its folder, by path; the default configuration last, without which there is no model."""
    values = {name: str(getattr(detection, name)) for name in VALUES}
    texts = {
        path: Template((Path(__file__).parent / file).read_text()).substitute(values)
        for path, file in reversed(TEMPLATES.items())
    }
    return {LABELS_FILE: detection.label_text(), **texts}


def _followed(text: str, new: str, file: Path, most: int, repository: Path) -> tuple[str, list[str]]:
    """A configuration that somebody may have edited, with the detector's parameters of the `new` one.

    most: photographs that the detector takes at a time.
    """
    found, expected = _parameters(file, text), _parameters(file, new)
    if other := _other(found, expected["detector"], repository):
        own = f"{expected['detector']} --in {parse_config(new, file).name}"
        return text, [f"it goes on calling {other}; python -m export use {own} changes that"]
    names, notes = ["detector", *FOLLOWS], []
    batch = found.get("detector_batch", "")
    # In this process, fewer than there could be are people's choice.
    if "in_process" not in found or not batch.isdecimal() or int(batch) > most:
        names.append("detector_batch")
    if found.get("family", expected["family"]) != expected["family"]:
        names += OF_FAMILY
        notes = [
            f"{name} is {expected[name]} from now on, and was {found.get(name)}: the detector was of the "
            f"family {found['family']}"
            for name in OF_FAMILY
            if found.get(name) != expected[name]
        ]
    changed = {name: expected[name] for name in names if found.get(name) != expected[name]}
    return _with_parameters(text, changed, file), notes


def _with_parameters(text: str, values: dict[str, str], file: Path) -> str:
    """`text` with other values for those parameters; all else as it is written, comments too."""
    expected = parse_config(text, file)
    for name, value in values.items():
        expected.parameters[name].string_value = value
    parts: list[str] = []
    position, missing = 0, dict(values)
    for start, end in top_level_fields(text):
        if field_name(text[start:end]) != "parameters":
            continue
        names = list(text_format.Parse(text[start:end], ModelConfig()).parameters)
        strings = [token.span() for token in TOKEN.finditer(text, start, end) if token.lastgroup == "string"]
        # A list of them is left, and what is missing stands after it: the last one counts.
        if len(names) == 1 and names[0] in missing and strings:
            parts += [text[position : strings[-1][0]], f'"{missing.pop(names[0])}"']
            position = strings[-1][1]
    rest = "".join(
        f'parameters {{ key: "{name}" value {{ string_value: "{missing[name]}" }} }}\n' for name in missing
    )
    changed = "".join((*parts, text[position:], "\n" if rest and not text.endswith("\n") else "", rest))
    if parse_config(changed, file) != expected:
        told = ", ".join(f"{name} {value}" for name, value in values.items())
        raise ConfigError(f"{file} cannot be rewritten as it is: give its parameters these values: {told}")
    return changed
