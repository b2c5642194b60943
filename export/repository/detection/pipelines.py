"""The folder of a detection pipeline: its configurations and labels; its code are copies
(export.repository.copies).

It is written after its detector, so that a repository without the one, as where its weights cannot be
fetched, has not the other either (docs/decisions/0038).
"""

from pathlib import Path
from string import Template

from export.common.errors import ConfigError, PublishError, SpecError
from export.repository.configs.contract import LABELS_FILE, parse_config, read_config_text
from export.repository.publish import CONFIG_FILE
from export.specs.detection import Detection

__all__ = ["is_detection", "write_configs"]

TEMPLATES = {CONFIG_FILE: "config.pbtxt", "configs/cpu.pbtxt": "cpu.pbtxt"}
PIXELS = ("width", "height", "fit")  # parameters by which a pipeline fits its detector
MARKS = {"detector", *PIXELS}  # those by which one is known
VALUES = ("name", "detector", "detector_batch", *PIXELS, "score_threshold", "iou_threshold")


def is_detection(folder: Path) -> bool:
    """Whether that model is such a pipeline, by its configuration."""
    path = folder / CONFIG_FILE
    if folder.name.startswith(".") or not path.is_file():
        return False
    try:
        config = parse_config(read_config_text(path), path)
    except (ConfigError, OSError):
        return False
    return config.backend == "python" and set(config.parameters) >= MARKS


def write_configs(detection: Detection, repository: Path) -> list[Path]:
    """Write what is not there; what somebody has edited stays, unless it is for a detector of another size or
    fit.

    Returns what was written. Raises `PublishError`, and `SpecError` where a model of another kind has its
    name.
    """
    folder, written = repository / detection.name, []
    if (folder / CONFIG_FILE).is_file() and not is_detection(folder):
        raise SpecError(f"{folder} holds a model of another kind: publish the detector under another name")
    try:
        for name, text in _texts(detection).items():
            file = folder / name
            if file.is_file() and (file.read_text() == text or _still_fits(file, text)):
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            scratch = file.with_name(f".{file.name}.new")
            scratch.write_text(text)
            scratch.replace(file)
            written.append(file)
    except OSError as error:
        raise PublishError(f"{folder} cannot be written: {error}; run the same command again") from error
    return written


def _texts(detection: Detection) -> dict[str, str]:
    """The files of its folder, by path; the default configuration last, without which there is no model."""
    values = {name: str(getattr(detection, name)) for name in VALUES}
    texts = {
        path: Template((Path(__file__).parent / file).read_text()).substitute(values)
        for path, file in reversed(TEMPLATES.items())
    }
    return {LABELS_FILE: detection.label_text(), **texts}


def _still_fits(file: Path, text: str) -> bool:
    """Whether an edited configuration is for the same pixels."""
    if file.name == LABELS_FILE:
        return False
    found, expected = (parse_config(one, file).parameters for one in (read_config_text(file), text))
    return all(name in found and found[name].string_value == expected[name].string_value for name in PIXELS)
