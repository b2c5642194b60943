"""Files that commands draw into."""

import os

import pytest
from PIL import Image

from client.cli.drawings import write_image
from client.errors import InvalidInput


@pytest.mark.parametrize(
    ("name", "size", "kind"),
    [("o.webp", (16_384, 1), "WEBP"), ("o.webp", (1, 20_000), "WEBP"), ("o.jpg", (65_501, 1), "JPEG")],
)
def test_a_side_that_a_format_has_not_got_is_said(tmp_path, name, size, kind):
    with pytest.raises(InvalidInput, match=rf"and {kind} takes .* Give -o a name that ends with \.png"):
        write_image(Image.new("RGB", size), tmp_path / name)
    assert os.listdir(tmp_path) == []
    write_image(Image.new("RGB", size), tmp_path / "o.png")


@pytest.mark.parametrize(("name", "size"), [("o.webp", (16_383, 1)), ("o.jpg", (65_500, 1))])
def test_the_largest_side_of_a_format_is_written(tmp_path, name, size):
    write_image(Image.new("RGB", size), tmp_path / name)
    assert Image.open(tmp_path / name).size == size


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
