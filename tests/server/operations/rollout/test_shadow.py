"""Copies of requests, and the end of it while a version does not answer."""

import threading

from server.operations.rollout import shadow
from server.operations.rollout.shadow import MOST_WAITING, WORKERS, Copied, Shadow


def test_an_end_waits_for_no_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(shadow, "TIMEOUT_S", 0.01)  # of four waits for room among the copies
    hangs, asked = threading.Event(), threading.Semaphore(0)

    def old():
        asked.release()
        hangs.wait()
        return []

    others = {*threading.enumerate()}
    with Shadow(tmp_path / "socket", old, ("127.0.0.1:1", "127.0.0.1:1"), "s3", None) as copies:
        for _ in range(WORKERS):
            copies.take(Copied("http", "/v2", "-", b""))
            assert asked.acquire(timeout=60)
        for _ in range(MOST_WAITING):
            copies.take(Copied("http", "/v2", "-", b""))
        threads = {*threading.enumerate()} - others
    hangs.set()
    for thread in threads:
        thread.join(5)
    assert not [thread for thread in threads if thread.is_alive()]
    assert not asked.acquire(blocking=False), "what waited was asked for"
