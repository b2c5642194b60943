"""The native half is built once, and the cache that keeps it is believed only where nobody else can write."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from server.environment import native


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(native.NATIVE_VARIABLE, "1")
    return tmp_path / "cache" / "triton-vision" / "native"


@pytest.fixture
def compiled(monkeypatch):
    """What was compiled, as a list that grows."""
    calls, genuine = [], native._compile

    def counted(command, files, library):
        calls.append(command)
        return genuine(command, files, library)

    monkeypatch.setattr(native, "_compile", counted)
    return calls


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "a.c").write_text('#include "a.h"\nint answer(void) { return ANSWER; }\n')
    (folder / "a.h").write_text("#define ANSWER 42\n")
    return folder


def test_a_second_start_builds_nothing(cache, compiled, sources, tmp_path):
    for name in ("one.so", "two.so"):
        assert native.build(sources, tmp_path / name) == ""
    assert len(compiled) == 1
    assert (tmp_path / "one.so").read_bytes() == (tmp_path / "two.so").read_bytes()
    assert cache.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["source", "header", "flags", "compiler"])
def test_another_source_flag_or_compiler_is_another_library(
    cache, compiled, sources, tmp_path, monkeypatch, what
):
    native.build(sources, tmp_path / "one.so")
    if what == "source":
        (sources / "a.c").write_text("int answer(void) { return 43; }\n")
    elif what == "header":
        (sources / "a.h").write_text("#define ANSWER 43\n")
    elif what == "flags":
        monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-DANSWERS"))
    else:
        monkeypatch.setattr(native, "_compiler_version", lambda command: "cc 99.0")
    native.build(sources, tmp_path / "two.so")
    assert len(compiled) == 2
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("danger", ["folder", "file", "link", "empty", "linked folder"])
def test_what_others_could_have_written_is_not_loaded(cache, compiled, sources, tmp_path, danger):
    native.build(sources, tmp_path / "one.so")
    (kept,) = cache.iterdir()
    forged = tmp_path / "forged"
    forged.write_bytes(b"forged")
    if danger == "folder":
        kept.write_bytes(b"forged")
        cache.chmod(0o777)
    elif danger == "file":
        kept.write_bytes(b"forged")
        kept.chmod(0o666)
    elif danger == "link":
        kept.unlink()
        kept.symlink_to(forged)
    elif danger == "empty":  # a machine that stopped before the disk had it
        kept.write_bytes(b"")
    else:
        kept.write_bytes(b"forged")
        cache.rename(tmp_path / "elsewhere")
        cache.symlink_to(tmp_path / "elsewhere")
    assert native.build(sources, tmp_path / "two.so") == ""
    assert len(compiled) == 2
    assert (tmp_path / "two.so").read_bytes() == (tmp_path / "one.so").read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_what_belongs_to_somebody_else_is_not_loaded(cache, compiled, sources, tmp_path):
    native.build(sources, tmp_path / "one.so")
    (kept,) = cache.iterdir()
    kept.write_bytes(b"forged")
    os.chown(kept, 12345, 12345)
    native.build(sources, tmp_path / "two.so")
    assert len(compiled) == 2
    os.chown(cache, 12345, 12345)
    native.build(sources, tmp_path / "three.so")
    assert len(compiled) == 3


def test_many_starts_at_once_get_one_whole_library_each(cache, sources, tmp_path):
    targets = [tmp_path / f"{number}.so" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda target: native.build(sources, target), targets)) == {""}
    assert len({target.read_bytes() for target in targets}) == 1
    assert [file.suffix for file in cache.iterdir()] == [".so"]  # nothing half written is left


def test_threads_that_keep_one_library_at_the_same_moment_do_not_meet(cache, sources, tmp_path, monkeypatch):
    amid = Barrier(2, timeout=20)
    monkeypatch.setattr(native.os, "fsync", lambda _: amid.wait())
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: native.build(sources, tmp_path / name), ("one.so", "two.so")))
    assert [file.suffix for file in cache.iterdir()] == [".so"]


def test_without_a_cache_it_is_built_each_time(compiled, sources, tmp_path, monkeypatch):
    monkeypatch.setenv(native.NATIVE_VARIABLE, "1")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made in it
    for name in ("one.so", "two.so"):
        assert native.build(sources, tmp_path / name) == ""
    assert len(compiled) == 2


def test_old_builds_make_room(cache, sources, tmp_path):
    for number in range(native.KEPT + 3):
        (sources / "a.h").write_text(f"#define ANSWER {number}\n")
        native.build(sources, tmp_path / "a.so")
    assert len(list(cache.iterdir())) == native.KEPT


def test_a_failed_build_is_not_kept(cache, sources, tmp_path):
    (sources / "a.c").write_text("no C at all")
    assert "could not compile" in native.build(sources, tmp_path / "a.so")
    assert not (tmp_path / "a.so").exists()
    assert not list(cache.iterdir())


def test_the_sources_hold_what_is_shipped(tmp_path, cache):
    assert shutil.which("cc") is None or native.build(native.SOURCES, tmp_path / native.LIBRARY) == ""
