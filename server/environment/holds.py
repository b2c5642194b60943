"""Models that are held at the versions that they serve, whatever newer ones are in the repository.

A rollout holds its model before anything of the new version is loaded, and lets go of it once that is
promoted. So whatever is started again meanwhile, a tritonserver or all of the launcher, serves the version
that has proved itself; after a rollback it goes on doing so. The repository is never written: holds are in
the folder of the user's state, or in systemd's `StateDirectory`.
"""

import contextlib
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import RepositoryError

__all__ = ["Hold", "Holds", "state_folder"]

FOLDER = "triton-vision"


@dataclass(frozen=True)
class Hold:
    """versions: those served. config: as tritonserver tells it, in JSON.

    against: the version that is kept out; why: it is.
    """

    versions: tuple[int, ...]
    config: str
    against: int
    why: str

    @property
    def load_config(self) -> str:
        """With which tritonserver loads these versions alone."""
        policy = {"version_policy": {"specific": {"versions": list(self.versions)}}}
        return json.dumps({**json.loads(self.config), **policy})


def state_folder() -> Path:
    """Of this user, or of this unit of systemd."""
    if given := os.environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    try:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    except RuntimeError:  # a user without a home
        base = "/var/lib"
    return Path(base) / FOLDER


class Holds(Mapping[str, Hold]):
    """Those of the models of `repository`, by name. Raises `RepositoryError` where they cannot be read.

    One against a version that has gone from the repository is dropped.
    """

    def __init__(self, repository: Path):
        self.repository = repository.resolve()
        digest = hashlib.sha256(os.fsencode(self.repository)).hexdigest()
        self.file = state_folder() / "holds" / f"{digest[:16]}.json"
        self._lock = threading.Lock()
        self._holds = self._read()
        gone = [
            name
            for name, hold in self._holds.items()
            if not (self.repository / name / str(hold.against)).is_dir()
        ]
        for name in gone:
            self.remove(name)

    def _read(self) -> dict[str, Hold]:
        try:
            models = json.loads(self.file.read_text())["models"]
            holds = {
                name: Hold(**{**hold, "versions": tuple(hold["versions"])}) for name, hold in models.items()
            }
            for hold in holds.values():
                json.loads(hold.load_config)
            return holds
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # where we cannot have kept any
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RepositoryError(
                f"{self.file} says which models are held at their versions, and cannot be read ({error}); "
                "remove it to serve what is in the repository"
            ) from None

    def __getitem__(self, model: str) -> Hold:
        return self._holds[model]

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._holds))

    def __len__(self) -> int:
        return len(self._holds)

    def hold(self, model: str, hold: Hold) -> None:
        """From now on, over restarts. Raises `RepositoryError`."""
        self._change({**self._holds, model: hold})

    def remove(self, model: str) -> None:
        """The model is loaded as the repository has it, from its next load on. Raises `RepositoryError`."""
        self._change({name: hold for name, hold in self._holds.items() if name != model})

    def _change(self, holds: dict[str, Hold]) -> None:
        with self._lock:
            models = {name: asdict(hold) for name, hold in holds.items()}
            try:
                if holds:
                    self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                    descriptor, temporary = tempfile.mkstemp(dir=self.file.parent)
                    with os.fdopen(descriptor, "w") as file:
                        json.dump({"repository": str(self.repository), "models": models}, file)
                        file.flush()
                        os.fsync(file.fileno())
                    os.replace(temporary, self.file)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        self.file.unlink()
            except OSError as error:
                raise RepositoryError(
                    f"which version is served cannot be kept in {self.file.parent}: {error.strerror}; let "
                    "XDG_STATE_HOME name a folder that can be written"
                ) from None
            self._holds = holds
