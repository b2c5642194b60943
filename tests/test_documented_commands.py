"""Every command that pages, Makefile, help and messages name is run by a test, or listed with the reason.

`tests/commands.py` says which; what is run here runs in a copy of the project, as a reader has it.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase

import pytest

from tests import test_readme
from tests.client import test_docs
from tests.commands import REGISTRY
from tests.documented import ROOT, collected, normalised
from tests.ways_to_run import Here, RunBy

pytestmark = pytest.mark.slow

COMMANDS = collected()
RUN_AS_WRITTEN = {
    normalised(command)
    for command in (*test_docs.COMMANDS, *test_readme.commands(test_readme.README, ".venv/bin/python"))
}
COPIED = (
    *("client", "deploy", "docs", "examples", "export", "model_repository", "perf", "server", "training"),
    *("Makefile", "LICENSE", "README.md", "demo.py", "docker-compose.yml", "pyproject.toml", "release.json"),
)


def entry_of(command):
    return next((entry for entry in REGISTRY if fnmatchcase(command, entry.pattern)), None)


def test_every_command_is_run_or_listed():
    missing = {
        command.text: command.place
        for command in COMMANDS
        if command.text not in RUN_AS_WRITTEN and not entry_of(command.text)
    }
    told = "\n".join(f"{place}: {text}" for text, place in sorted(missing.items()))
    assert not missing, f"no test runs these; say in tests/commands.py how, or why not:\n{told}"


def test_the_registry_holds_nothing_that_is_gone():
    used = {entry_of(command.text) for command in COMMANDS if command.text not in RUN_AS_WRITTEN}
    assert [entry.pattern for entry in REGISTRY if entry not in used] == []
    for entry in REGISTRY:
        if isinstance(entry, RunBy):
            file, name = entry.test.split("::")
            there = re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.M) is not None
            assert there, f"{entry.test} is gone; it was to run `{entry.pattern}`"


def test_commands_are_found_in_every_place():
    assert len({command.text for command in COMMANDS}) > 120
    places = {command.place.partition(":")[0] for command in COMMANDS}
    assert places >= {
        "README.md",
        "CONTRIBUTING.md",
        "Makefile",
        "docs/how-to/measure.md",
        "perf/benchmarks/run.py",
        "export/cli/lint.py",
    }


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("$ python -m client health  # is it there?", "python -m client health"),
        ("MODEL=a .venv/bin/python -m perf run x", "python -m perf run x"),
        ("    python -m perf run my.py:spec      exported for the time", "python -m perf run my.py:spec"),
        ("make demo    # all", "make demo"),
        ("make the most of it", "make the most of it"),
        ("python -m pip install x", None),
        ("perf/scripts/concurrency.sh a", "perf/scripts/concurrency.sh a"),
        ("makefile", None),
    ],
)
def test_commands_are_written_in_one_way(line, command):
    assert normalised(line) == command


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The project as it is checked out and exported; perf's own results go to its perf/out."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__", "out")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def runs():
    """Each command that is run here once, however many pages name it."""
    found = {}
    for command in COMMANDS:
        entry = None if command.text in RUN_AS_WRITTEN else entry_of(command.text)
        if isinstance(entry, Here):
            found.setdefault(entry.short or command.text, entry)
    return [
        pytest.param(text, id=text, marks=[pytest.mark.long] if entry.long else [])
        for text, entry in found.items()
    ]


@pytest.mark.parametrize("command", runs())
def test_it_runs(command, copy):
    words = shlex.split(command)
    if words[0] == "python":
        words[0] = sys.executable
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(
        words,
        cwd=copy,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if command == "python -m perf report":
        assert "skipped" not in done.stderr
