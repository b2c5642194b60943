"""The file that a command draws into, checked before a server is asked."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from PIL import Image

from ..errors import InvalidInput

__all__ = ["checked_path", "write_image"]

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def checked_path(name: str) -> Path:
    """Where a drawing may go by its name. Raises InvalidInput."""
    path = Path(name)
    if path.suffix.lower() not in FORMATS:
        raise InvalidInput(f"{path} is to be a picture; end its name with one of {', '.join(FORMATS)}.")
    if not path.parent.is_dir():
        raise InvalidInput(
            f"there is no folder {path.parent} to write {path.name} to; make it, or choose another."
        )
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder; give the name of a file.")
    return path


def write_image(image: Image.Image, path: Path) -> None:
    """All of it or nothing: what was there stays until the new file is whole. Raises InvalidInput."""
    try:
        descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                image.save(file, FORMATS[path.suffix.lower()])
                file.flush()
                os.fsync(file.fileno())
            os.chmod(scratch, 0o666 & ~_umask())
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be written: {error.strerror or error}. Choose another with -o."
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
