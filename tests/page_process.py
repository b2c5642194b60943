"""The page, `python -m client web`, as a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


class Page:
    """Entered when it takes requests. url: with a slash at its end; port: which is kept by `port=`."""

    def __init__(self, server_url, *arguments, port=0, program=(sys.executable, "-m", "client")):
        self._command = [*program, "web", "--json", "--url", server_url, "--port", str(port), *arguments]

    def __enter__(self):
        self.process = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(f"the page did not start: {self.process.communicate()[1]}")
        self.url = json.loads(line)["page"]
        self.port = int(self.url.rstrip("/").rpartition(":")[2])
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.errors = self.process.communicate()[1]
