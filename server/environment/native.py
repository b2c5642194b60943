"""Build the native half of the ONNX Runtime backend, which serves plain models inside tritonserver.

    python -I server/environment/native.py   # build it now, if it is not in the user's cache yet

The system's C compiler builds it, or the one in the Python package ziglang; without either the Python half
serves every model, slower (docs/decisions/0014). What was built is kept in the user's cache under a hash of
the sources, the flags and the compiler, so a server starts without building anything, and nothing there gets
stale.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["COMPILER_ADVICE", "LIBRARY", "NATIVE_VARIABLE", "build", "compiler", "install"]

LIBRARY = "libtriton_onnxruntime.so"  # the name by which tritonserver finds it
BATCHING = "batchstrategy.so"  # and what forms the batches of a backend's models (batching.c)
SOURCES = Path(__file__).resolve().parent.parent / "backends" / "onnxruntime" / "native"
# 0: do without; sanitize: with checks that stop it at the first wrong access
NATIVE_VARIABLE = "TRITON_VISION_NATIVE"
FLAGS = ("-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden")
# nodelete: a library that is unloaded cannot be named in reports at the end.
SANITIZERS = ("-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-Wl,-z,nodelete")
SYSTEM_LIBRARIES = ("-ldl", "-lpthread")  # in libc itself from glibc 2.34 on
OLDEST_GLIBC = "x86_64-linux-gnu.2.28"
COMPILER_ADVICE = "install a C compiler (`apt-get install gcc libc6-dev`), or `pip install ziglang`"
BUILD_TIMEOUT_S = 120  # ziglang prepares its C library once, some seconds
KEPT = 8  # builds in the cache: of other checkouts, or of older sources


def compiler() -> list[str] | None:
    """The command that compiles C here; None if there is none."""
    if found := shutil.which("cc"):
        return [found]
    if importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc", "-target", OLDEST_GLIBC]
    return None


def install(python: Path, ours: Path) -> str:
    """Put the library into these folders of backends, `ours` with its sources; returns as `build`."""
    problem = build(ours / "native", ours / LIBRARY)
    if (ours / LIBRARY).exists():
        shutil.copy2(ours / LIBRARY, python / BATCHING)
    return problem


def build(sources: Path, library: Path) -> str:
    """Put the library of a folder of C files at `library`: out of the cache, else compiled, and then kept.

    What to tell the user if that is not possible, else "". The cache is used if nobody else can write to it.
    """
    switch = os.environ.get(NATIVE_VARIABLE)
    if switch == "0":
        return ""
    command = compiler()
    if not command:
        return "there is no C compiler, so ONNX models run in Python processes, slower"
    files = sorted(sources.glob("*.c"))
    flags = [*FLAGS, *(SANITIZERS if switch == "sanitize" else ())]
    key = _key(command, flags, sorted((*files, *sources.glob("*.h"))))
    with _cache() as cache:
        if cache is not None and _copy_from(cache, key, library):
            return ""
        if problem := _compile([*command, *flags], files, library):
            library.unlink(missing_ok=True)
            return (
                f"{command[0]} could not compile {sources}, so ONNX models run in Python processes, slower; "
                f"it says: {problem[-500:]}"
            )
        if cache is not None:
            with contextlib.suppress(OSError):  # a full disk: it is built again next time
                _copy_to(cache, key, library)
    return ""


def _compile(command: list[str], files: list[Path], library: Path) -> str:
    command = [*command, "-o", str(library), *map(str, files), *SYSTEM_LIBRARIES]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or f"status {done.returncode}") if done.returncode else ""


def _key(command: list[str], flags: list[str], files: list[Path]) -> str:
    """A name for what these would build: every byte that goes into it counts."""
    digest = hashlib.sha256()
    for part in (*command, *flags, *SYSTEM_LIBRARIES, _compiler_version(tuple(command))):
        digest.update(part.encode() + b"\0")
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name}\0{len(content)}\0".encode() + content)
    return f"{digest.hexdigest()[:32]}.so"


@functools.cache
def _compiler_version(command: tuple[str, ...]) -> str:
    if "ziglang" in command:
        return importlib.metadata.version("ziglang")
    try:
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


@contextlib.contextmanager
def _cache() -> Iterator[int | None]:
    """A descriptor of the cache's folder; None if there is none that this user alone can write to."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()
    folder = home / "triton-vision" / "native"
    descriptor = None
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (OSError, RuntimeError):  # RuntimeError: no home
        pass
    try:
        yield descriptor if descriptor is not None and _ours_alone(os.fstat(descriptor)) else None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _ours_alone(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _copy_from(cache: int, key: str, library: Path) -> bool:
    """False if it is not there, or not ours. The folder is open: nobody can put another in its place."""
    try:
        descriptor = os.open(key, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=cache)
    except OSError:
        return False
    with open(descriptor, "rb") as kept:
        status = os.fstat(kept.fileno())
        if not (stat.S_ISREG(status.st_mode) and _ours_alone(status) and status.st_size):
            return False
        with library.open("wb") as copy:
            shutil.copyfileobj(kept, copy)
    os.utime(key, dir_fd=cache, follow_symlinks=False)  # used today, so others are dropped first
    return True


def _copy_to(cache: int, key: str, library: Path) -> None:
    """Whole or not at all: several servers may start at once, and a machine may stop at any moment."""
    temporary = f".{key}.{secrets.token_hex(8)}"  # threads of one process build at once, too
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o700, dir_fd=cache)
    try:
        with open(descriptor, "wb") as copy:
            copy.write(library.read_bytes())
            copy.flush()
            os.fsync(copy.fileno())
        os.rename(temporary, key, src_dir_fd=cache, dst_dir_fd=cache)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=cache)
        raise
    ages = {name: os.stat(name, dir_fd=cache, follow_symlinks=False).st_mtime for name in os.listdir(cache)}
    for name in sorted(ages, key=ages.__getitem__)[:-KEPT]:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=cache)


def main() -> int:
    """Returns the exit status: 1, with the reason on standard error, if it cannot be built."""
    with tempfile.TemporaryDirectory() as scratch:
        if problem := build(SOURCES, Path(scratch) / LIBRARY):
            print(f"triton-vision: {problem}. {COMPILER_ADVICE}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
