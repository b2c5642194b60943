"""What is known to be open in the release that is looked at, and what it does otherwise than others."""

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ...environment.place import COMMAND
from .report import GREEN, RED, YELLOW, Check, Facts

__all__ = [
    "Advisory",
    "as_lines",
    "as_objects",
    "client_check",
    "open_advisories",
    "security_check",
    "shared_memory_of_clients_check",
]

TABLE = Path(__file__).with_name("advisories.json")  # `python -m export releases --advisories` writes it
CRITICAL = 9.0  # CVSS 3.1
OPEN = "open"
FAR_APART = 6  # minor versions: half a year of monthly releases


@dataclass(frozen=True)
class Advisory:
    """One vulnerability: score by CVSS 3, fixed: the first release without it, source: NVIDIA's bulletin."""

    cve: str
    score: float
    fixed: str
    part: str
    weakness: str
    source: str


def open_advisories(release: str) -> list[Advisory]:
    """Those that the release, as in 24.10, has; by the release that fixes them, the worst first."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    return [Advisory(**row) for row in table["advisories"] if row["fixed"] > release]


def newest_bulletin() -> str:
    """The date of the last bulletin that the table knows, as in 2026-08-18."""
    return str(json.loads(TABLE.read_text(encoding="utf-8"))["newest_bulletin"])


def security_check(facts: Facts) -> Check:
    """How many vulnerabilities of the release are known and fixed later: yellow if any is."""
    release = facts["release"]["value"]
    known = open_advisories(release)
    if not known:
        return Check(
            "security", GREEN, f"{release}: nothing open in NVIDIA's bulletins to {newest_bulletin()}"
        )
    grave = sum(advisory.score >= CRITICAL for advisory in known)
    fixed: dict[str, list[Advisory]] = {}
    for advisory in known:
        fixed.setdefault(advisory.fixed, []).append(advisory)
    groups = ", ".join(f"{len(group)} in {name}" for name, group in fixed.items())
    found = (
        f"{release} has {len(known)} known vulnerabilities, {grave} rated {CRITICAL:g} or more "
        f"(NVIDIA's bulletins to {newest_bulletin()}); fixed: {groups}"
    )
    remedy = (
        f"keep it to desks and CI, on this machine alone; other people's traffic belongs to "
        f"{facts['container_image']['value']} or later; `{COMMAND} doctor --advisories` names each"
    )
    return Check("security", YELLOW, found, remedy)


def as_lines(release: str) -> list[str]:
    """A line for each open vulnerability: CVE, score, the release that fixes it, what it is, its bulletin."""
    return [
        f"{known.cve:<15} {known.score:>4}  fixed in {known.fixed}  {known.part}: {known.weakness}  "
        f"{known.source}"
        for known in open_advisories(release)
    ]


def as_objects(release: str) -> list[dict[str, object]]:
    """The same for scripts."""
    return [asdict(known) for known in open_advisories(release)]


def shared_memory_of_clients_check(facts: Facts) -> Check:
    """Whether clients may hand over tensors in shared memory, which releases from 26.04 on leave closed."""
    name, release = "shared memory of clients", facts["release"]["value"]
    found = facts["client_shared_memory"]["value"]
    if found == OPEN:
        return Check(
            name, GREEN, f"{release} has it; on loopback it is open, elsewhere with --open shared-memory"
        )
    return Check(
        name,
        YELLOW,
        f"closed in {release}: `client --shared-memory` and perf_analyzer's are refused",
        f"for trusted clients on the same machine start with `-- {found}`",
    )


def client_check(facts: Facts) -> Check | None:
    """How far the installed tritonclient is from the server; None where there is none."""
    try:
        client = importlib.metadata.version("tritonclient")
    except importlib.metadata.PackageNotFoundError:
        return None
    server = facts["triton"]["value"]
    apart = _minor(client) - _minor(server)
    found = f"tritonclient {client}, server {server}"
    if client.split(".")[0] != server.split(".")[0]:
        return Check("client", RED, f"{found}: another protocol", f"pip install 'tritonclient=={server}'")
    if abs(apart) <= FAR_APART:
        return Check("client", GREEN, found)
    return Check(
        "client",
        YELLOW,
        f"{found}: {abs(apart)} releases {'newer' if apart > 0 else 'older'}; requests are understood, but "
        "config fields and options of one are unknown to the other",
        f"keep to what release {facts['release']['value']} knows, which triton-vision's linter tells"
        if apart > 0
        else "pip install -U tritonclient",
    )


def _minor(version: str) -> int:
    return int(version.split(".")[1])
