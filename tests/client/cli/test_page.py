"""`python -m client web` as people start and stop it."""

import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from client.cli.main import main
from client.web.serving import is_loopback, listening, url_of
from tests.conftest import ROOT
from tests.launcher import get
from tests.page_process import Page

NOBODY = "127.0.0.1:9"  # the page starts all the same


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly(ended_by):
    with Page(NOBODY) as page:
        assert get(page.url)[0] == 200
        page.process.send_signal(ended_by)
        assert page.process.wait() == 0
    assert page.errors == ""
    assert get(page.url)[0] == 0


def test_it_says_where_it_is_and_whom_it_asks():
    command = [sys.executable, "-u", "-m", "client", "web", "--url", NOBODY, "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        process.terminate()
    said = r"The page is http://127\.0\.0\.1:\d+/ and asks grpc://127\.0\.0\.1:9\. Ctrl-C stops it\.\n"
    assert re.fullmatch(said, line)


def test_it_warns_where_other_machines_get_in():
    with Page(NOBODY, "--host", "0.0.0.0") as page:
        assert page.url.startswith("http://127.0.0.1:")
        assert get(page.url)[0] == 200
    assert page.errors.startswith("warning: whoever reaches this machine at 0.0.0.0 may use the page")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "192.0.2.1"], "'192.0.2.1' is not an address of this machine"),
        (["--host", "no.such.host.invalid"], "'no.such.host.invalid' is not an address of this machine"),
        (["--port", "99999"], "port is 99999; it lies between 0 and 65535"),
        (["--url", "ftp://x"], "choose one of grpc, grpcs, http, https"),
        (["--header", "nonsense"], "not of the form 'Name: value'"),
    ],
)
def test_what_cannot_be_is_said(options, said, capsys):
    assert main(["web", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["web", "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"error: port {port} of 127.0.0.1 is in use. Choose another with --port; 0 takes any free one.\n"
    )


def test_what_serves_it_is_not_installed(monkeypatch, capsys):
    for module in [name for name in sys.modules if name.startswith(("client.web", "starlette", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr("client.web", raising=False)
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert main(["web"]) == 2
    assert capsys.readouterr().err == (
        "error: the page needs starlette. `make setup` installs it; without make, pip install --group web.\n"
    )


def test_addresses_as_a_browser_takes_them():
    addresses = [("127.0.0.1", r"http://127\.0\.0\.1:\d+/")]
    if os.path.exists("/proc/net/if_inet6"):
        addresses.append(("::1", r"http://\[::1\]:\d+/"))
    for host, url in addresses:
        with listening(host, 0) as listener:
            assert re.fullmatch(url, url_of(listener))
            assert is_loopback(listener)
    with listening("0.0.0.0", 0) as listener:
        assert not is_loopback(listener)
