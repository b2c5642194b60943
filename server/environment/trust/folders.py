"""A model's folder, held against what was signed, and copied while it is.

The folder may be in anybody's hands: it is never read but as regular files, no link is followed, and the
bytes that are hashed are those that are written to the copy, so that nothing can change in between.

What Python compiled there (`__pycache__`) is code that anybody may have written. It is neither signed nor
copied, and no fault either: Python leaves it wherever models are served from where they lie, and makes it
anew.
"""

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ...errors import SignatureError
from .signatures import LARGEST_SIGNATURE_BYTES, SIGNATURE_FILE

__all__ = ["BYTECODE_FOLDER", "BYTECODE_SUFFIX", "check_signed", "opened", "read_signature_file", "scan"]

CHUNK_BYTES = 2**20
BYTECODE_FOLDER, BYTECODE_SUFFIX = "__pycache__", ".pyc"
SPARE_BYTES = 64 * 2**20  # left free where copies are written
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # nor wait for a pipe's other end


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of the folder. Raises `SignatureError` if it is a link or no folder, or `OSError`."""
    if folder.is_symlink():
        raise SignatureError("", "is a symbolic link")
    descriptor = os.open(folder, READ | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_signature_file(folder: int) -> bytes:
    """The bytes of the folder's signature. Raises `SignatureError` if there is none, or `OSError`."""
    try:
        content = b"".join(_read(folder, SIGNATURE_FILE, LARGEST_SIGNATURE_BYTES))
    except FileNotFoundError:
        raise SignatureError(SIGNATURE_FILE, "is missing: nobody signed this model") from None
    return content


def scan(folder: int, signed: Mapping[str, str], suffix: str = "") -> dict[str, os.stat_result]:
    """What `os.stat` says of each file, and of the signature; not of bytecode that was not signed.

    suffix: what is not called so may be missing.

    Raises `SignatureError` that names the first thing that was not signed, is no regular file, or is missing;
    it ends there, however much lies in the folder. Or `OSError`.
    """
    parents = {str(parent) for name in signed for parent in PurePosixPath(name).parents}
    found = dict(_scanned(folder, "", {*signed, SIGNATURE_FILE}, parents))
    if missing := sorted(name for name in signed.keys() - found.keys() if name.endswith(suffix)):
        raise SignatureError(missing[0], f"was signed, and is missing{_and_others(missing)}")
    return found


def _scanned(
    folder: int, prefix: str, files: set[str], folders: set[str]
) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            found = os.stat(entry.name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                raise SignatureError(path, "is a symbolic link")
            if stat.S_ISDIR(found.st_mode):
                is_bytecode = entry.name == BYTECODE_FOLDER and not prefix.endswith(f"{BYTECODE_FOLDER}/")
                if path not in folders and not is_bytecode:
                    raise SignatureError(path, "is a folder in which no file was signed")
                below = os.open(entry.name, READ | os.O_DIRECTORY, dir_fd=folder)
                try:
                    yield from _scanned(below, f"{path}/", files, folders)
                finally:
                    os.close(below)
            elif not stat.S_ISREG(found.st_mode):
                raise SignatureError(path, "is no regular file")
            elif path in files:
                yield path, found
            elif not _is_bytecode(path):
                raise SignatureError(path, "was added: it was not signed")


def _is_bytecode(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return name.endswith(BYTECODE_SUFFIX) and folder.rpartition("/")[2] == BYTECODE_FOLDER


def check_signed(
    folder: int, signed: Mapping[str, str], target: Path | None = None, suffix: str = ""
) -> dict[str, os.stat_result]:
    """Hold each file against its sha256 in `signed`, and write it to the new folder `target`, if any.

    suffix: only files whose names end with it are looked at, and have to be there. Returns what `scan` did.
    Raises `SignatureError` that names the file, or `OSError`; what was written to `target` is then worth
    nothing, and the caller's to remove.
    """
    found = scan(folder, signed, suffix)
    signed = {name: digest for name, digest in signed.items() if name.endswith(suffix)}
    if target:
        _make_room(target, sum(found[name].st_size for name in signed))
    changed = []
    for name, digest in sorted(signed.items()):
        hashed = hashlib.sha256()
        with _written(target, name) if target else contextlib.nullcontext() as copy:
            for chunk in _read(folder, name, found[name].st_size):
                hashed.update(chunk)
                if copy:
                    copy.write(chunk)
            if copy and found[name].st_mode & stat.S_IXUSR:
                os.fchmod(copy.fileno(), 0o700)
        if hashed.hexdigest() != digest:
            changed.append(name)
    if changed:
        raise SignatureError(changed[0], f"is not the file that was signed{_and_others(changed)}")
    return found


def _make_room(target: Path, needed_bytes: int) -> None:
    target.mkdir(mode=0o700)
    free_bytes = shutil.disk_usage(target).free
    if needed_bytes + SPARE_BYTES > free_bytes:
        raise SignatureError(
            "",
            f"has {needed_bytes / 2**20:,.0f} MiB to copy, and {SPARE_BYTES // 2**20} are to stay free, but "
            f"{target.parent} has {free_bytes / 2**20:,.0f}; make room, or let TMPDIR name another folder",
        )


def _written(target: Path, name: str) -> BinaryIO:
    for parent in reversed(PurePosixPath(name).parents[:-1]):  # not `target` anew: it goes with its run
        (target / parent).mkdir(mode=0o700, exist_ok=True)
    return open(target / name, "xb")


def _read(folder: int, name: str, most_bytes: int) -> Iterator[bytes]:
    """The chunks of a regular file; `SignatureError` if it is none, or has more than `most_bytes`."""
    try:
        file = os.open(name, READ, dir_fd=folder)
    except OSError as error:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise SignatureError(name, "is a symbolic link") from None
        raise error
    with open(file, "rb", buffering=0) as source:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise SignatureError(name, "is no regular file")
        left = most_bytes
        while chunk := source.read(min(CHUNK_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise SignatureError(
                    name, f"has more than {most_bytes:,} bytes: it grows, or is none of ours"
                )
            yield chunk


def _and_others(names: list[str]) -> str:
    return (
        f"; so {'is' if len(names) == 2 else 'are'} {', '.join(names[1:4])}{', ...' * (len(names) > 4)}"
        * (len(names) > 1)
    )
