"""The models of a repository that are as they were signed, as copies in a folder of the launcher's own.

tritonserver is given that folder and no other, so whatever happens to the repository afterwards, what is
served is what was verified. Before each later load the model is verified and copied again.
"""

import contextlib
import ctypes
import os
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from ...errors import RepositoryError, SignatureError, shown
from ..place import advice_to_sign
from ..repository import model_folders
from .folders import check_signed, opened, read_signature_file, scan
from .keys import PublicKey
from .signatures import SIGNATURE_FILE, Manifest, read_signature

__all__ = ["VerifiedRepository", "is_model", "verified"]

INCOMING = "model"  # what is being copied, or removed
MOST_REASONS = 3
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
libc = ctypes.CDLL(None, use_errno=True)


class VerifiedRepository:
    """Copies of those models in `source` that one of `keys` signed, in `folder`/models.

    suffix: only files whose names end with it are verified and copied.
    path: the folder of copies. refused: by model why it was not copied when that was last tried, with the
    file named; a copy from before may be there still. changes: how often a copy came or went. Raises
    `RepositoryError` if nothing can be written.
    """

    def __init__(self, source: Path, keys: Sequence[PublicKey], folder: Path, suffix: str = ""):
        self.source, self.path = source, folder / "models"
        self.refused: dict[str, str] = {}
        self.changes = 0
        self._keys, self._suffix = keys, suffix
        self._incoming = folder / "incoming"  # outside of what tritonserver looks at
        self._lock = threading.Lock()
        self._copied: dict[str, Manifest] = {}
        self._seen: dict[str, object] = {}  # marks of what was last looked at, for `follow`
        self._faults: dict[str, str] = {}  # the file that it was refused for
        try:
            self.path.mkdir(mode=0o700)
            self._incoming.mkdir(mode=0o700)
        except OSError as error:
            raise RepositoryError(
                f"copies of models cannot be written to {folder}: {error.strerror}; make room, or let "
                "TMPDIR name another folder"
            ) from None

    def take_all(self) -> None:
        """Copy what is signed. Raises `RepositoryError` if nothing is, or there is no such repository."""
        for folder in model_folders(self.source):
            if is_model(folder):
                with contextlib.suppress(SignatureError):  # told, and kept
                    self.take(folder.name)
        if not self._copied:
            reasons = "; ".join(list(self.refused.values())[:MOST_REASONS]) or "there is none"
            if (more := len(self.refused) - MOST_REASONS) > 0:
                reasons += f"; and {more} more, told above"
            raise RepositoryError(f"no model in {self.source} may be served: {reasons}; {advice_to_sign()}")

    def take(self, model: str) -> None:
        """Verify a model anew, and let its copy be what was verified. Raises `SignatureError` if it fails."""
        if model in ("", ".", "..") or {"/", "\0"} & {*model}:  # no path is made of it
            raise SignatureError(model, "is no name of a model")
        with self._lock:
            try:
                self._take(model)
            except SignatureError as error:
                if self.refused.get(model) != str(error):
                    _say(f"model {shown(model)} is refused: {error}")
                self.refused[model] = str(error)
                raise
            if self.refused.pop(model, None):
                _say(f"model {shown(model)} is as it was signed")

    def follow(self, stop: threading.Event, interval_s: float) -> None:
        """Until `stop`, take up what changes in the repository and is signed: for a server that polls."""
        while not stop.wait(interval_s):
            try:
                names = {folder.name for folder in model_folders(self.source) if is_model(folder)}
            except RepositoryError as error:
                _say(str(error))
                continue
            for model in sorted(names):
                if self._changed(model):
                    with contextlib.suppress(SignatureError):
                        self.take(model)
            for model in (self._copied.keys() | self.refused.keys()) - names:
                self._forget(model)

    def _take(self, model: str) -> None:
        incoming = self._incoming / INCOMING  # never of a name that somebody gives: it is removed
        fault = self._faults.pop(model, "")
        before = self._fault_marks(model, fault)
        try:
            manifest, self._seen[model] = verified(
                self.source / model, self._keys, incoming, suffix=self._suffix
            )
            self._copied.pop(model, None)  # else what could not be put there counts as copied
            _put(incoming, self.path / model)
            self._copied[model] = manifest
            self.changes += 1
        except SignatureError as error:
            self._faults[model] = error.file
            self._seen[model] = before  # of another fault: then it is looked at once more
            raise SignatureError(f"{model}/{error.file}".rstrip("/"), error.fault) from None
        except OSError as error:
            self._seen[model] = None
            name = shown(os.path.basename(str(error.filename or "")))
            raise SignatureError(
                model,
                f"cannot be read or copied{f' ({name})' if name else ''}: {error.strerror or error}",
            ) from None
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def _changed(self, model: str) -> bool:
        """Whether its folder was touched since it was copied; of one that was refused, what was wrong."""
        if model in self.refused:
            seen = self._seen.get(model)
            return not seen or seen != self._fault_marks(model, self._faults.get(model, ""))
        if model not in self._copied:
            return True
        with contextlib.suppress(SignatureError, OSError), opened(self.source / model) as folder:
            return _marks(scan(folder, self._copied[model].files)) != self._seen.get(model)
        return True

    def _fault_marks(self, model: str, file: str) -> object:
        """Of the file that a model was refused for, and of its signature: one changes when it is mended."""
        found = {}
        for name in (file, SIGNATURE_FILE) if file else ():
            with contextlib.suppress(OSError):
                found[name] = os.lstat(self.source / model / name)
        return _marks(found)

    def _forget(self, model: str) -> None:
        with self._lock:
            self._copied.pop(model, None)
            self.refused.pop(model, None)
            with contextlib.suppress(OSError):
                os.rename(self.path / model, self._incoming / INCOMING)
            shutil.rmtree(self._incoming / INCOMING, ignore_errors=True)
            self.changes += 1


def verified(
    folder: Path,
    keys: Sequence[PublicKey],
    target: Path | None = None,
    signature: Path | None = None,
    suffix: str = "",
) -> tuple[Manifest, object]:
    """Verify a model's folder, and copy it to the new folder `target`, if one is given.

    signature: to go by in place of the one in the folder. suffix: see `check_signed`. Returns what was
    signed, and marks that change when a file does. Raises `SignatureError` or `OSError`.
    """
    with opened(folder) as descriptor:
        content = signature.read_bytes() if signature else read_signature_file(descriptor)
        manifest = read_signature(content, keys)
        if manifest.model != folder.name:
            raise SignatureError(SIGNATURE_FILE, f"is that of model {shown(manifest.model)}, not of this one")
        return manifest, _marks(check_signed(descriptor, manifest.files, target, suffix))


def _marks(found: dict[str, os.stat_result]) -> object:
    """The change time is the kernel's: who may write a file cannot set it."""
    return {name: (file.st_ino, file.st_size, file.st_ctime_ns) for name, file in found.items()}


def is_model(folder: Path) -> bool:
    """Whether a folder of a repository claims to be a model, by the names in it."""
    try:
        names = os.listdir(folder)
    except OSError:
        return True  # why it cannot be read is told
    return any(name in ("config.pbtxt", "configs", SIGNATURE_FILE) or name.isdecimal() for name in names)


def _put(new: Path, place: Path) -> None:
    """Move a folder to its place, in exchange for the one there: a server that polls never finds none."""
    if not place.exists():
        os.rename(new, place)
    elif libc.renameat2(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(place), RENAME_EXCHANGE):
        shutil.rmtree(place)  # a file system that cannot exchange
        os.rename(new, place)


def _say(text: str) -> None:
    print(f"triton-vision: {text}", file=sys.stderr, flush=True)
