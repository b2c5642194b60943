"""What is no regular file is refused, and never waited for."""

import os
import socket

import pytest

from server.environment import regular_files
from server.environment.regular_files import NotRegularError, open_regular, read_regular, regular


def bind(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, bind, lambda path: os.symlink("/dev/zero", path)], ids="pfsd"
)
@pytest.mark.parametrize("read", [regular, open_regular, read_regular])
def test_what_is_no_regular_file_is_refused(tmp_path, make, read):
    make(tmp_path / "x")
    with pytest.raises(NotRegularError, match="it is not a regular file"):
        read(tmp_path / "x")


def test_what_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "x")
    monkeypatch.setattr(regular_files, "regular", lambda path: path)  # as if it had been one a moment ago
    with pytest.raises(NotRegularError):
        open_regular(tmp_path / "x")


def test_a_regular_file_is_read_through_links(tmp_path):
    (tmp_path / "x").write_bytes(b"content")
    (tmp_path / "link").symlink_to("x")
    assert read_regular(tmp_path / "link") == b"content"
    assert regular(tmp_path / "link") == tmp_path / "link"
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "y")
