"""A gate inside a Python model: a request waits there until a test lets it go.

So a request is in flight, or a queue full, for as long as a test needs it, and no test reckons with time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import wait_until

CODE = """
def pass_gate(folder={folder!r}):
    import os, time, uuid
    here = os.path.join(folder, "held-" + uuid.uuid4().hex)
    open(here, "w").close()
    while not os.path.exists(os.path.join(folder, "open")):
        time.sleep(0.01)
    os.remove(here)
"""


class Gate:
    """`code` goes in front of a model's own, which then calls `pass_gate()`. The gate is open at first."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.code = CODE.format(folder=str(folder))
        self.open()

    def open(self) -> None:
        (self.folder / "open").touch()

    def held(self) -> int:
        """How many requests stand at the gate."""
        return len(list(self.folder.glob("held-*")))

    def wait_until_held(self, count: int = 1) -> None:
        wait_until(lambda: self.held() >= count)

    @contextmanager
    def closed(self) -> Iterator[None]:
        for left_by_a_killed_process in self.folder.glob("held-*"):
            left_by_a_killed_process.unlink()
        (self.folder / "open").unlink()
        try:
            yield
        finally:
            self.open()
