"""Files that commands draw into."""

import os

import pytest
from PIL import Image

from client.cli.drawings import write_image
from client.errors import InvalidInput


def test_what_was_there_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "o.png"
    path.write_bytes(b"before")

    def broken(self, file, kind):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", broken)
    with pytest.raises(InvalidInput, match="No space left"):
        write_image(Image.new("RGB", (2, 2)), path)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["o.png"]
