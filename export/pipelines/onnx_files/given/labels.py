"""Names of classes, as people have them: a text file with one per line."""

from pathlib import Path

from export.common.errors import SpecError
from server.environment.regular_files import read_regular

__all__ = ["read_labels"]


def read_labels(file: Path) -> list[str]:
    """Raises `SpecError` for a file that cannot be read, or has an empty line."""
    try:
        labels = read_regular(file).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"the labels cannot be read: {error}") from error
    if not labels or not all(label.strip() for label in labels):
        raise SpecError(f"{file} has an empty line, or none: give one name per class and line")
    return labels
