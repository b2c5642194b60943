"""Does a detection pipeline fit the detector that it calls? By their configurations and labels."""

from collections.abc import Iterator
from pathlib import Path

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
    parameters = parse_config(read_config_text(file), file).parameters
    values = {name: parameter.string_value for name, parameter in parameters.items()}
    name = values.get("detector", "")
    path = folder.parent / name / CONFIG_FILE
    if not path.is_file():
        yield f"{file} calls the detector {name!r}, and {path} is not there: {EXPORT}"
        return
    detector = parse_config(read_config_text(path), path)
    dims = {tensor.name: list(tensor.dims) for tensor in (*detector.input, *detector.output)}
    size = [values.get("height"), values.get("width"), "3"]
    if [str(dim) for dim in dims.get("image", [])][-3:] != size:
        yield f"{file} hands over pixels of {size}, and {name} takes {dims.get('image')}: {EXPORT}"
    most, asked = max(1, detector.max_batch_size), values.get("detector_batch", "")
    if not asked.isdecimal() or not 1 <= int(asked) <= most:
        yield f"{file} has a detector_batch of {asked!r}, and {name} takes up to {most}: {EXPORT}"
    labels = folder / LABELS_FILE
    names = (
        read_regular(labels).decode(errors="replace").removesuffix("\n").split("\n")
        if labels.is_file()
        else []
    )
    classes = dims.get("scores", [0])[-1]
    if file.name == CONFIG_FILE and classes not in (-1, len(names)):
        yield f"{labels} names {len(names)} classes, and {name} tells {classes} apart: {EXPORT}"
