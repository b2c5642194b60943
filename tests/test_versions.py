"""The version is one, in every wheel that is built from this repository."""

import re

from tests.conftest import ROOT

WHEELS = sorted(path.parent for path in ROOT.glob("*/pyproject.toml"))


def test_every_wheel_has_the_same_version():
    found = {folder.name: (folder / "_version.py").read_text() for folder in WHEELS}
    assert "client" in found
    assert len(set(found.values())) == 1, found
    (version,) = re.findall(r'^__version__ = "(.*)"$', found["client"], re.M)
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    for folder in WHEELS:
        assert 'dynamic = ["version"]' in (folder / "pyproject.toml").read_text()
