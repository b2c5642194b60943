"""The version is one, in every wheel that is built from this repository."""

import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import client.cli.main
import export.cli.commands
import perf.cli
import server.cli
import server.tfserving.cli
import training.cli
from client._version import __version__
from tests.conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WHEELS = sorted(path.parent for path in ROOT.glob("*/pyproject.toml"))


def test_every_wheel_has_the_same_version():
    found = {folder.name: (folder / "_version.py").read_text() for folder in WHEELS}
    assert "client" in found
    assert len(set(found.values())) == 1, found
    (version,) = re.findall(r'^__version__ = "(.*)"$', found["client"], re.M)
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    for folder in WHEELS:
        assert 'dynamic = ["version"]' in (folder / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    "main",
    [
        client.cli.main.main,
        export.cli.commands.run,
        perf.cli.main,
        server.cli.main,
        server.tfserving.cli.main,
        training.cli.main,
    ],
)
def test_every_command_tells_it(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.endswith(f" {__version__}\n")


def test_a_python_that_will_not_do_is_refused_before_numpy_is_compiled_for_it():
    """pip looks at what a wheel needs before it looks at which Python it takes."""
    project = tomllib.loads((ROOT / "server" / "pyproject.toml").read_text())["project"]
    (numpy,) = (one for one in map(Requirement, project["dependencies"]) if one.name == "numpy")
    for python in ("3.10", "3.12", "3.13", "3.14"):
        takes_it = SpecifierSet(project["requires-python"]).contains(python)
        assert numpy.marker.evaluate({"python_version": python}) is takes_it
