"""What a case needs of a running `python -m server --gateway`: its load, its servers, its processes."""

import contextlib
import os
import signal
from collections.abc import Iterator

from server.operations.control.conversation import ask
from tests.chaos.models import SHAPE
from tests.gateways import Served
from tests.processes import command_line, descendants, halt, wait_until
from tests.traffic import ALL_KINDS, Counted, Load

RATE = 250.0  # requests per second in all: two cores are shared with servers and gateway
THREADS = 10


def fleet(served: Served, do: str = "gateway", **more) -> dict:
    """What the launcher says of its servers, once it has done it."""
    return ask(served.port, {"do": do, **more})


def guards(served: Served) -> dict[str, int]:
    """The process above each tritonserver, by slot."""
    return {slot: server["pid"] for slot, server in fleet(served)["servers"].items()}


def tritonservers(served: Served) -> dict[str, int]:
    """By slot, of those that run at this moment."""
    below = {slot: descendants(guard) for slot, guard in guards(served).items()}
    return {slot: pids[0] for slot, pids in below.items() if pids}


def stubs(tritonserver: int) -> list[int]:
    """The Python processes of models below a tritonserver."""
    found = []
    for pid in descendants(tritonserver):
        if b"triton_python_backend_stub" in command_line(pid).split(b"\0")[0]:
            found.append(pid)
    return found


def haproxy(served: Served) -> int:
    return fleet(served)["gateway"]["pid"]


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Within, the process stands."""
    halt(pid)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def under_load(served: Served, requests: int, change, model: str = "plus_one", **options) -> Counted:
    """`change(load)` while requests come; so many in all at least, a fifth of them before, a fifth after."""
    options = {"rate": RATE, "threads": THREADS, "kinds": ALL_KINDS, "shape": SHAPE, **options}
    load = Load(served.port, served.tenants.keys["alice"], None, model, **options)
    try:
        wait_until(lambda: load.counted.sent >= requests // 5)
        change(load)
        enough = max(requests, load.counted.sent + requests // 5)
        wait_until(lambda: load.counted.sent >= enough)
    finally:
        counted = load.stop()
    return counted
