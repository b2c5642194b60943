"""Copies of what others hold: code that models share, labels of the models that they call, the server's lock.

Real files, so that one model's folder works wherever it is copied to; each is written from the one place
where it lives (docs/decisions/0028).
"""

from dataclasses import dataclass
from pathlib import Path

from export import model_code
from export.common.errors import PublishError
from export.repository import MODEL_REPOSITORY
from export.repository.configs.composition import config_files, models_named
from export.repository.configs.contract import LABELS_FILE, parse_config, read_config_text
from export.repository.configs.difference import text_difference
from export.repository.detection.pipelines import is_detection
from export.repository.publish import tell_unsigned
from server.environment.regular_files import read_regular

__all__ = ["REPAIR", "check_copies", "copies_of", "models_with_copies", "write_copies"]

CODE = Path(model_code.__file__).parent
REPAIR = "python -m export copies"
VERSION = "1"  # of a Python model: there is one, which is edited


@dataclass(frozen=True)
class SharedFiles:
    """What one model needs: modules below `export/model_code`, and the labels of the model that it calls."""

    modules: tuple[str, ...]
    labels: bool = False
    model: str | None = None  # the module that is its model.py, of one that is not committed itself


ROOT = MODEL_REPOSITORY.parent
PROJECT = "the wheels' files"  # what belongs to no model is listed under this name
PROJECT_COPIES = {  # each of the two folders is installed alone
    ROOT / "server" / "release.json": ROOT / "release.json",
    **{ROOT / folder / "LICENSE": ROOT / "LICENSE" for folder in ("client", "server")},
    ROOT / "client" / "images" / "pages" / "layout.py": CODE / "layout.py",
}

SHARED = {
    "detect_faces": SharedFiles(
        (
            "best_boxes",
            "decoding",
            "face_boxes",
            "face_pixels",
            "serving/idle_memory",
            "serving/request_values",
            "serving/served_network",
            "serving/unforeseen",
        )
    ),
    "explain_objects": SharedFiles(
        (
            "serving/called_network",
            "decoding",
            "serving/idle_memory",
            "masked_copies",
            "serving/network",
            "serving/request_values",
            "serving/served_network",
            "serving/unforeseen",
        ),
        labels=True,
    ),
    "image_decoder": SharedFiles(("decoding", "serving/idle_memory", "serving/unforeseen")),
    "read_text": SharedFiles(
        (
            "serving/called_network",
            "ctc",
            "decoding",
            "serving/idle_memory",
            "layout",
            "line_image",
            "serving/network",
            "serving/request_values",
            "serving/served_network",
            "serving/step_spans",
            "serving/unforeseen",
        )
    ),
    "recognize_objects": SharedFiles(
        ("decoding", "serving/idle_memory", "serving/network", "serving/step_spans", "serving/unforeseen"),
        labels=True,
    ),
}
DETECTION = SharedFiles(  # of every model that `is_detection`
    (
        "serving/answers",
        "best_boxes",
        "serving/called_network",
        "decoding",
        "serving/idle_memory",
        "letterbox",
        "serving/network",
        "serving/request_values",
        "serving/served_network",
        "serving/unforeseen",
    ),
    model="object_detection",
)


def models_with_copies(repository: Path) -> list[str]:
    """Names for the functions below: models, and `PROJECT` for what is not a model's."""
    detections = sorted(folder.name for folder in repository.glob("*/") if is_detection(folder))
    return [PROJECT, *(name for name in SHARED if (repository / name).is_dir()), *detections]


def copies_of(name: str, repository: Path) -> dict[Path, Path]:
    """Where a model of the repository holds a copy, and of which file. Raises `ConfigError`."""
    if name == PROJECT:
        return PROJECT_COPIES
    shared, folder = SHARED.get(name, DETECTION), repository / name
    copies = {
        folder / VERSION / f"{Path(module).name}.py": CODE / f"{module}.py" for module in shared.modules
    }
    if shared.model:
        copies[folder / VERSION / "model.py"] = CODE / f"{shared.model}.py"
    if shared.labels:
        for file in config_files(folder):
            for called in sorted(models_named(parse_config(read_config_text(file), file), repository)):
                if (labels := repository / called / LABELS_FILE).is_file():
                    copies[folder / LABELS_FILE] = labels
    return copies


def check_copies(name: str, repository: Path) -> list[str]:
    """The differences, as texts to show, each with the command that mends it. Raises `ConfigError`."""
    return [
        difference
        for copy, original in copies_of(name, repository).items()
        for difference in _difference(copy, original)
    ]


def write_copies(name: str, repository: Path) -> list[Path]:
    """Write those of one model that are missing or differ; returns them. Raises `PublishError`."""
    written = []
    for copy, original in copies_of(name, repository).items():
        try:
            content = read_regular(original)
        except OSError as error:
            raise PublishError(f"{original}, of which {copy} is a copy, cannot be read: {error}") from error
        if not copy.is_symlink() and copy.is_file() and copy.read_bytes() == content:
            continue
        scratch = copy.with_name(f".{copy.name}.new")
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(content)
            scratch.replace(copy)
        except OSError as error:
            raise PublishError(f"{copy} cannot be written: {error}; then run `{REPAIR}` again") from error
        written.append(copy)
    if written:
        tell_unsigned(repository / name)
    return written


def _difference(copy: Path, original: Path) -> list[str]:
    repair = f"edit {original}, then run `{REPAIR}`"
    if copy.is_symlink():
        return [f"{copy} is a link, which does not survive a copy of the model: run `{REPAIR}`"]
    if not copy.is_file():
        return [f"{copy} is missing: run `{REPAIR}`"]
    if not original.is_file():
        return [f"{original} is missing, of which {copy} is a copy: take it from the project's repository"]
    found, expected = (read_regular(path).decode(errors="replace") for path in (copy, original))
    return [f"{text}\n{repair}" for text in text_difference(found, expected, str(copy), str(original))]
