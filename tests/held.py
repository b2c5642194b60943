"""A gate inside a Python model: a request waits there until a test lets it go.

So a request is in flight, or a queue full, for as long as a test needs it, and no test reckons with time.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import wait_until

CODE = """
def pass_gate(requests=1, folder={folder!r}):
    import glob, os, time, uuid
    for bar in glob.glob(os.path.join(folder, "bar-*")):
        here = bar.replace("bar-", "held-") + f"-{{uuid.uuid4().hex}}-{{requests}}"
        open(here, "w").close()
        while os.path.exists(bar):
            time.sleep(0.01)
        os.remove(here)
"""


class Gate:
    """`code` goes in front of a model's own, which then calls `pass_gate()`. The gate is open at first.

    Each closing has a bar of its own: who was let go and has not left yet is not held by the next.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self.code = CODE.format(folder=str(folder))
        self.bar = ""

    def open(self) -> None:
        (self.folder / f"bar-{self.bar}").unlink(missing_ok=True)

    def held(self) -> int:
        """How many requests stand at the gate."""
        return sum(int(path.name.rpartition("-")[2]) for path in self.folder.glob(f"held-{self.bar}-*"))

    def wait_until_held(self, count: int = 1) -> None:
        wait_until(lambda: self.held() >= count)

    @contextmanager
    def closed(self) -> Iterator[None]:
        self.bar = uuid.uuid4().hex
        (self.folder / f"bar-{self.bar}").touch()
        try:
            yield
        finally:
            self.open()
