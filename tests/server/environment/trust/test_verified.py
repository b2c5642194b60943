"""Copies of what is signed: whole ones, whatever changes, grows or fills up meanwhile."""

import errno
import os
import shutil
import threading

import pytest

from export.repository.signing import Signer
from server.environment.trust import folders, verified
from server.environment.trust.keys import read_keys
from server.environment.trust.verified import VerifiedRepository
from server.errors import RepositoryError, SignatureError
from tests.processes import wait_until
from tests.server.environment.trust.signed_models import FILES, content, copies, flip, write


def test_a_change_while_it_is_copied_is_not_served(repository, public, monkeypatch):
    """Whoever changes a file between two reads finds that there is one only."""
    read = folders._read

    def changing(folder, name, most_bytes):
        model = os.path.basename(os.readlink(f"/proc/self/fd/{folder}"))
        for number, chunk in enumerate(read(folder, name, most_bytes)):
            if model == "one" and name == "1/model.onnx.data" and number == 0:
                flip(repository / model / name)  # its last byte, not read yet
            yield chunk
        if model == "two" and name == "labels.txt":
            flip(repository / model / name)  # it was read: too late

    monkeypatch.setattr(folders, "_read", changing)
    made = copies(repository, public)
    assert made.refused == {"one": "one/1/model.onnx.data is not the file that was signed"}
    assert content(made.path / "two") == FILES


def test_a_file_that_grows_or_fills_the_disk_is_not_copied(repository, public, monkeypatch):
    with open(repository / "one" / "1" / "helper.py", "r+b") as file:
        file.truncate(2**40)  # sparse
    usage = shutil.disk_usage(repository)
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: usage._replace(free=2**39))
    made = copies(repository, public)
    assert "has 1,048,579 MiB to copy" in made.refused["one"]
    assert os.listdir(made.path) == ["two"]


def test_a_copy_never_makes_the_runs_folder_anew(repository, public, monkeypatch):
    """A guard removes it at the end of a run, whatever a thread is copying."""
    made, read = copies(repository, public), folders._read

    def ending(folder, name, most_bytes):
        yield from read(folder, name, most_bytes)
        if name == "1/helper.py":
            shutil.rmtree(made.path.parent)

    monkeypatch.setattr(folders, "_read", ending)
    with pytest.raises(SignatureError, match="cannot be read or copied"):
        made.take("one")
    assert not made.path.parent.exists()


def test_a_disk_that_is_full_is_told(repository, public, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders, "_written", full)
    with pytest.raises(RepositoryError, match="one cannot be read or copied: No space left on device"):
        copies(repository, public)
    monkeypatch.setattr(verified.Path, "mkdir", full)
    with pytest.raises(RepositoryError, match=r"No space left on device; make room, or let TMPDIR"):
        VerifiedRepository(repository, read_keys([public]), repository.parent / "run")


def test_a_name_is_no_path(repository, public):
    made = copies(repository, public)
    outside = repository.parent / "outside"  # of this test: what a mistake may remove
    outside.mkdir()
    for name in ("../one", "..", ".", "", "one/1", "one\0", str(outside)):
        with pytest.raises(SignatureError, match="is no name of a model"):
            made.take(name)
    with pytest.raises(SignatureError, match="nobody cannot be read"):
        made.take("nobody")


def test_what_is_refused_is_not_read_again_until_it_changes(repository, key, public, monkeypatch):
    """A model of gigabytes would be, at each poll."""
    reads = []
    verify = verified.check_signed
    monkeypatch.setattr(verified, "check_signed", lambda *given: (reads.append(1), verify(*given))[1])
    made = copies(repository, public)

    def polled(times=4):
        """How often a model was read in some polls."""
        before, stop = len(reads), threading.Event()
        waits = iter([False] * times)
        monkeypatch.setattr(stop, "wait", lambda _: next(waits, True))
        made.follow(stop, 0)
        return len(reads) - before

    assert polled() == 0
    flip(repository / "one" / "labels.txt")
    assert polled() == 2
    assert polled() == 0
    flip(repository / "one" / "1" / "helper.py")
    assert polled() == 0, "it is refused anyway"
    flip(repository / "one" / "labels.txt")
    assert polled() == 2
    assert "helper.py" in made.refused["one"]
    flip(repository / "one" / "1" / "helper.py")
    assert polled() == 1
    assert not made.refused


@pytest.mark.parametrize("can_exchange", [True, False])
def test_following_takes_what_is_signed_and_keeps_what_was(
    can_exchange, repository, key, public, monkeypatch, capsys
):
    if not can_exchange:
        monkeypatch.setattr(verified.libc, "renameat2", lambda *_: -1)
    made = copies(repository, public)
    stop = threading.Event()
    thread = threading.Thread(target=made.follow, args=(stop, 0.01))
    thread.start()
    try:
        inode = (made.path / "two").stat().st_ino
        (repository / "one" / "labels.txt").write_text("evil")
        wait_until(lambda: made.refused, 20)
        assert (made.path / "one" / "labels.txt").read_bytes() == FILES["labels.txt"]
        Signer(key).sign(repository / "one")
        wait_until(lambda: not made.refused, 20)
        assert (made.path / "one" / "labels.txt").read_text() == "evil"
        write(repository / "three")
        wait_until(lambda: made.refused, 20)
        assert not (made.path / "three").exists()
        Signer(key).sign(repository / "three")
        wait_until(lambda: (made.path / "three").exists(), 20)
        shutil.rmtree(repository / "one")
        wait_until(lambda: not (made.path / "one").exists() and not made.refused, 20)
        assert (made.path / "two").stat().st_ino == inode, "untouched"
    finally:
        stop.set()
        thread.join()
    told = capsys.readouterr().err
    assert told.count("one/labels.txt is not the file that was signed") == 1
    assert "model one is as it was signed" in told
