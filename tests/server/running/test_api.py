"""The launcher's conversation with tritonserver, as far as it needs no server."""

import pytest

from server.running.api import UNLOADING_S, Api, ModelStatus


@pytest.mark.parametrize("ends", [True, False])
def test_a_model_that_is_being_unloaded_is_waited_for_and_not_for_ever(ends, monkeypatch):
    """Triton 2.51 can end where it is loaded meanwhile; of a process that died it may never be unloaded."""
    now, told = [0.0], []
    monkeypatch.setattr("server.running.api.time.monotonic", lambda: now[0])
    monkeypatch.setattr("server.running.api.time.sleep", lambda seconds: now.append(now.pop() + seconds))

    def index(_):
        is_over = ends and now[0] >= UNLOADING_S / 2
        told.append("UNAVAILABLE" if is_over else "UNLOADING")
        return [ModelStatus("other", "1", "UNLOADING", ""), ModelStatus("echo", "1", told[-1], "")]

    monkeypatch.setattr(Api, "index", index)
    monkeypatch.setattr(Api, "request", lambda _, method, path, *more: told.append(path) or (200, b""))
    Api("127.0.0.1:1", {}, None, {}).load("echo", 60)
    assert told.pop() == "/v2/repository/models/echo/load"
    assert told[0] == "UNLOADING"
    assert now[0] == pytest.approx(UNLOADING_S / (2 if ends else 1), abs=0.06)
