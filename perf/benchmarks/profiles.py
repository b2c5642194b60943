"""Which loads a run makes: profiles.toml, and what a command line changes of one."""

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from perf.harness.errors import PerfError
from perf.harness.load import Load
from perf.harness.serving import TRANSPORTS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["PROFILES", "LoadProfile", "get_profile", "read_profiles"]

PROFILES = Path(__file__).with_name("profiles.toml")
DISTRIBUTIONS = ("constant", "poisson")
CONCURRENCY = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class LoadProfile:
    """A sweep; profiles.toml explains its fields. Raises `PerfError` if it makes no sense."""

    name: str
    model: str
    title: str = ""
    transports: tuple[str, ...] = ("grpc",)
    concurrency: tuple[int, ...] = ()
    request_rate: tuple[float, ...] = ()
    share: tuple[float, ...] = ()
    distribution: tuple[str, ...] = ("constant",)
    seconds: float = 3.0
    rounds: int = 1

    def __post_init__(self) -> None:
        def refuse(what: str) -> None:
            raise PerfError(f"profile {self.name}: {what}" if self.name else what)

        for name, known in (("transports", tuple(TRANSPORTS)), ("distribution", DISTRIBUTIONS)):
            if unknown := [value for value in getattr(self, name) if value not in known]:
                refuse(f"{name} has {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
        levels = [name for name in ("concurrency", "request_rate", "share") if getattr(self, name)]
        if len(levels) > 1:
            refuse(f"give one of concurrency, request_rate and share, not {' and '.join(levels)}")
        if not levels:
            object.__setattr__(self, "concurrency", CONCURRENCY)
        for name in ("concurrency", "request_rate", "share", "seconds", "rounds"):
            value = getattr(self, name)
            if any(one <= 0 for one in (value if isinstance(value, tuple) else (value,))):
                refuse(f"{name} must be greater than 0, not {value}")

    def loads(self, peak: float | None = None) -> list[Load]:
        """Every level; `peak` requests a second are what `share` is of. Raises `ValueError` without it."""
        if self.share and peak is None:
            raise ValueError("shares are of a peak, which has to be given")
        rates = self.request_rate or tuple(round(share * (peak or 0.0), 1) for share in self.share)
        return [Load(concurrency) for concurrency in self.concurrency] + [
            Load(request_rate=rate, distribution=distribution)
            for rate in rates
            for distribution in self.distribution
        ]

    def changed(self, **values: Any) -> "LoadProfile":
        """With those values that are not None; a kind of level replaces another."""
        given = {name: value for name, value in values.items() if value is not None}
        levels = ("concurrency", "request_rate", "share")
        if any(name in given for name in levels):
            given = {**dict.fromkeys(levels, ()), **given}
        return replace(self, **given)


def read_profiles(path: Path = PROFILES) -> dict[str, LoadProfile]:
    """Every profile of a file, by name. Raises `PerfError`."""
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise PerfError(f"{path} holds no profiles: {error}") from None
    known = {field.name for field in fields(LoadProfile)} - {"name"}
    profiles = {}
    for name, table in tables.items():
        if not isinstance(table, dict) or "model" not in table or not set(table) <= known:
            wrong = ", ".join(sorted(set(table) - known)) if isinstance(table, dict) else ""
            raise PerfError(
                f"{path}: profile {name!r} needs a model, and knows {', '.join(sorted(known))}"
                + (f", not {wrong}" if wrong else "")
            )
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in table.items()
        }
        profiles[name] = LoadProfile(name, **values)
    return profiles


def get_profile(name: str, path: Path = PROFILES) -> LoadProfile:
    """One of them. Raises `PerfError`, which lists them."""
    profiles = read_profiles(path)
    if name not in profiles:
        raise PerfError(f"{path} has no profile {name!r}; there are {', '.join(profiles)}")
    return profiles[name]
