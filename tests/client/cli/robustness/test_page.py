"""docs/how-to/robustness.md: its figures come out again."""

import json
import re

import pytest

from client.cli.main import main
from client.images.corruptions import CORRUPTIONS
from tests.conftest import ROOT
from tests.documented import fenced

PAGE = (ROOT / "docs" / "how-to" / "robustness.md").read_text()
MOST_APART = 2  # photographs, of processors that round unlike


def test_the_levels_of_the_page_are_those_of_the_code():
    for name, corruption in CORRUPTIONS.items():
        (row,) = re.findall(rf"^\| {name}: (.*?) \|", PAGE, re.MULTILINE)
        scale = 100 if "%" in row else 1
        numbers = [float(number) / scale for number in re.findall(r"[\d.]+", row)]
        assert numbers == pytest.approx(corruption.levels), name


@pytest.mark.long
def test_the_table_of_the_page_holds(server, tmp_path, monkeypatch, capsys):
    """The page's own lines make the photographs, and its command asks about them."""
    (code,) = fenced(PAGE, "python")
    (line,) = fenced(PAGE, "sh")
    arguments = line.split()[3:]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/how-to/robustness.md", "exec"), {})
    assert main([*arguments, "--json", "--url", server.grpc_url]) == 0
    found = [json.loads(told) for told in capsys.readouterr().out.splitlines()]
    assert (tmp_path / "robustness.png").exists()
    assert abs(found[0]["correct"] - 20) <= MOST_APART
    for name in CORRUPTIONS:
        (row,) = re.findall(rf"^\| {name}:.*", PAGE, re.MULTILINE)
        told = [float(share) / 100 for share in re.findall(r"(\d+)%", row)[:5]]
        counts = [one["correct"] for one in found if one["corruption"] == name]
        assert [one["images"] for one in found if one["corruption"] == name] == [23] * 5
        for share, count in zip(told, counts, strict=True):
            assert abs(share * 23 - count) <= MOST_APART + 0.5, (name, told, counts)
