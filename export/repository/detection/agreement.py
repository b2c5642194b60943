"""Does a detection pipeline fit the detector that it calls? By their configurations and labels."""

from collections.abc import Iterator
from pathlib import Path

from export.common.detections import disagreements as compared
from export.repository.configs.composition import config_files
from export.repository.configs.contract import LABELS_FILE, parse_config, read_config_text
from export.repository.publish import CONFIG_FILE
from server.environment.regular_files import read_regular

__all__ = ["disagreements"]

EXPORT = "export the detector again, or mend it by hand"


def disagreements(name: str, repository: Path) -> list[str]:
    """As texts to show, of a pipeline (`is_detection`). Raises `ConfigError`."""
    folder = repository / name
    return [text for file in config_files(folder) for text in _of_file(file, folder)]


def _of_file(file: Path, folder: Path) -> Iterator[str]:
    config = parse_config(read_config_text(file), file)
    name = config.parameters["detector"].string_value
    path = folder.parent / name / CONFIG_FILE
    if not path.is_file():
        yield f"{file} calls the detector {name!r}, and {path} is not there: {EXPORT}"
        return
    labels = folder / LABELS_FILE
    names = (
        read_regular(labels).decode(errors="replace").removesuffix("\n").split("\n")
        if labels.is_file()
        else []
    )
    for parameter, text in compared(config, parse_config(read_config_text(path), path), len(names)):
        if parameter or file.name == CONFIG_FILE:
            yield f"{file if parameter else labels} {text}: {EXPORT}"
