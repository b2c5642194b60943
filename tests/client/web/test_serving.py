"""When the page's process stops."""

import os
import signal
import threading

import pytest
from starlette.applications import Starlette

from client.web import serving


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_also_if_told_so_before_it_serves(stop, monkeypatch):
    run, late = serving._Server.run, []

    def told_before(server, sockets):
        signal.raise_signal(stop)
        run(server, sockets)

    def tell_again():
        late.append(stop)
        os.kill(os.getpid(), stop)

    monkeypatch.setattr(serving._Server, "run", told_before)
    again = threading.Timer(60, tell_again)
    again.start()
    serving.serve(Starlette(), serving.listening("127.0.0.1", 0), lambda: None)
    again.cancel()
    assert not late
