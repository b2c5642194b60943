"""Version labels: "stable" and "canary" are versions that somebody has given these names.

They come from TensorFlow Serving's own model config file, which is read again when it changes, and from
options, which win.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import text_format

from ..environment.regular_files import NotRegularError, read_regular
from .wire.messages import message
from .wire.refusal import invalid

__all__ = ["LabelError", "VersionLabels"]

ModelServerConfig = message("tensorflow.serving.ModelServerConfig")
Labels = dict[tuple[str, str], int]
Stamp = tuple[int, ...]


class LabelError(ValueError):
    """The file of labels cannot be read; the message says why."""


class VersionLabels:
    """file: a model config file, or None. given: {(model, label): version}. Raises `LabelError`."""

    def __init__(self, file: Path | None = None, given: Mapping[tuple[str, str], int] | None = None):
        self._file, self._given = file, dict(given or {})
        self._stamp, self._labels = self._read() if file else (None, {})

    def version(self, model: str, label: str) -> int:
        """Raises `Refusal` for a label that nobody has given."""
        self._look()
        found = self._given.get((model, label), self._labels.get((model, label)))
        if found is None:
            raise invalid(f"Unrecognized servable version label: {label}")
        return found

    def _read(self) -> tuple[Stamp | None, Labels]:
        assert self._file
        try:
            stamp = _stamp(self._file)
            text = read_regular(self._file).decode()  # a pipe would hold up everybody
            config = text_format.Parse(text, ModelServerConfig(), allow_unknown_field=True)
        except (OSError, ValueError, text_format.ParseError) as error:
            reason = error.strerror if isinstance(error, NotRegularError) else error
            raise LabelError(
                f"{self._file} is not a model config file of TensorFlow Serving: {reason}"
            ) from None
        labels = {
            (model.name, label): version
            for model in config.model_config_list.config
            for label, version in model.version_labels.items()
        }
        return stamp, labels

    def _look(self) -> None:
        """Read the file again if it has changed; what is broken or gone keeps the labels that there were."""
        if not self._file:
            return
        try:
            stamp = _stamp(self._file)
        except OSError:  # it is gone, or about to be replaced
            return
        if stamp == self._stamp:
            return
        self._stamp = stamp  # what is broken is told of once
        try:
            _, self._labels = self._read()
        except LabelError as error:
            print(f"tfserving: {error}; the labels stay as they were", file=sys.stderr, flush=True)


def _stamp(file: Path) -> Stamp:
    """Another one once the file was written or replaced, also by one of the same times as `tar` sets them."""
    found = file.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
