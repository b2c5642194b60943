"""What goes wrong while a server starts or loads a model: a full disk, a broken graph, too little memory."""

import contextlib
import os
import resource
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.chaos.fleet import fleet, guards, tritonservers, under_load
from tests.chaos.models import PLUS_ONE, write_onnx, write_waiting
from tests.gateways import Served, ask, needs_haproxy
from tests.processes import descendants, wait_until

pytestmark = [needs_haproxy, pytest.mark.chaos]

SMALL = "size=8m,mode=1777"
REQUESTS = 600


@pytest.fixture
def small_disk():
    """A file system of 8 MiB, as a folder of this test's; it is gone after it."""
    if os.geteuid():
        pytest.skip("only root mounts a small file system")
    with tempfile.TemporaryDirectory(prefix="small") as folder:  # a socket's path is short
        mount = ["mount", "-t", "tmpfs", "-o", SMALL, "chaos", folder]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("no file system can be mounted here")
        yield Path(folder)
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def served(tmp_path, tenants):
    """Two servers on one good model; an admin may load others."""
    write_onnx(tmp_path / "models", "plus_one")
    options = ["--open=model-repository", "--", "--model-control-mode=explicit", "--load-model=plus_one"]
    with Served(tmp_path / "models", tmp_path / "log", tenants, *options, servers=2) as served:
        served.models = tmp_path / "models"
        yield served
    assert served.process.returncode == 0


def load_model(served, name):
    """Status and text of what an admin is answered."""
    headers = {**served.tenants["root"], "content-type": "application/json"}
    status, _, body = ask(served.port, "POST", f"/v2/repository/models/{name}/load", headers, b"{}")
    return status, body.decode()


def goes_on(served, told, act):
    """The good model is served without a loss while `act()` runs, by the same processes."""
    before = tritonservers(served)
    counted = under_load(served, REQUESTS, lambda _: act(), rate=100)
    told(counted)
    assert (counted.lost, counted.refused) == (0, 0), counted
    assert tritonservers(served) == before


@pytest.mark.parametrize(
    "graph",
    [b"", b"no graph", PLUS_ONE[: len(PLUS_ONE) // 2], PLUS_ONE.replace(b"Add", b"Adx"), os.urandom(100_000)],
    ids=["empty", "text", "half", "an unknown operator", "noise"],
)
def test_a_corrupt_graph_beside_good_ones(served, graph, told):
    write_onnx(served.models, "broken", graph)

    def act():
        for _ in range(2):  # leastconn: each of the two, as a rule
            status, text = load_model(served, "broken")
            assert status == 400, text
            assert "broken" in text

    goes_on(served, told, act)


def test_a_full_disk_at_load(served, small_disk, told):
    """A graph that was cut off where the disk was full, and a model that cannot be read whole."""
    target = served.models / "cut" / "1"
    write_onnx(served.models, "cut")
    graph = target / "model.onnx"
    graph.unlink()
    graph.symlink_to(small_disk / "model.onnx")
    with contextlib.suppress(OSError):
        (small_disk / "model.onnx").write_bytes(PLUS_ONE[:-10] + bytes(16 * 2**20))
    assert (small_disk / "model.onnx").stat().st_size < 16 * 2**20

    def act():
        status, text = load_model(served, "cut")
        assert status == 400, text

    goes_on(served, told, act)


def test_a_full_disk_for_temporary_files(tmp_path, small_disk, tenants, told, monkeypatch):
    """A server that is killed then is replaced, or the launcher says why not; the other goes on."""
    write_onnx(tmp_path / "models", "plus_one")
    monkeypatch.setenv("TMPDIR", str(small_disk))
    monkeypatch.setattr(tempfile, "tempdir", None)  # it is looked up once
    monkeypatch.setenv("XDG_RUNTIME_DIR", "")
    assert tempfile.gettempdir() == str(small_disk)  # and once it is full, still
    with Served(tmp_path / "models", tmp_path / "log", tenants, servers=2) as served:

        def replaced():
            return any(server["restarts"] for server in fleet(served)["servers"].values())

        def act(_):
            with contextlib.suppress(OSError), (small_disk / "more").open("wb", buffering=0) as more:
                while True:
                    more.write(bytes(4096))
            os.kill(next(iter(tritonservers(served).values())), signal.SIGKILL)
            wait_until(lambda: replaced() or "No space left on device; make room" in served.told())

        counted = under_load(served, REQUESTS, act, rate=100)
        told(counted)
    assert (counted.lost, counted.refused) == (0, 0), counted


def test_a_memory_limit_at_load(served, told):
    """A model that asks for more than its server may have fails to load; what serves goes on."""
    write_waiting(served.models, "greedy", 1, 0)
    code = served.models / "greedy" / "1" / "model.py"
    grab = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\nGRABBED = bytes(2**31)\n"
    code.write_text(grab + code.read_text())

    def act():
        status, text = load_model(served, "greedy")
        assert status == 400, text
        assert "MemoryError" in text

    goes_on(served, told, act)


def test_a_memory_limit_of_a_server(served, told):
    """A server that may have no more memory than it has: it is replaced, and the other goes on."""
    before = fleet(served)["servers"]["s1"]["restarts"]
    pid = tritonservers(served)["s1"]

    def act(_):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        used = pages * os.sysconf("SC_PAGE_SIZE")
        resource.prlimit(pid, resource.RLIMIT_AS, (used, used))
        began = time.monotonic()
        write_onnx(served.models, "another")
        while time.monotonic() < began + 5 and tritonservers(served).get("s1") == pid:
            load_model(served, "another")

    counted = under_load(served, REQUESTS, act, rate=100)
    told(f"{counted}\n    s1 was restarted {fleet(served)['servers']['s1']['restarts'] - before} times")
    assert counted.lost <= counted.sent // 100, counted
    wait_until(served.ready)
    assert set(guards(served)) == {"s1", "s2"}


def test_a_clock_that_jumps(tmp_path, tenants, told):
    """Servers and gateway whose clocks since boot are a day ahead of the machine's: nothing of theirs minds.

    That is what time-outs are reckoned by. The time of day belongs to the whole machine, so no test sets it.
    """
    jump = ("unshare", "--time", "--boottime=86400", "--monotonic=86400", "--fork", "--kill-child")
    if subprocess.run([*jump, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no time namespace can be made here: it takes root, and Linux 5.6")
    write_onnx(tmp_path / "models", "plus_one")
    with Served(tmp_path / "models", tmp_path / "log", tenants, servers=2, prefix=jump) as served:
        try:
            counted = under_load(served, REQUESTS, lambda _: None, rate=100)
        finally:
            os.kill(descendants(served.process.pid)[0], signal.SIGTERM)  # unshare passes no signal on
        told(counted)
    assert (counted.lost, counted.refused) == (0, 0), counted
