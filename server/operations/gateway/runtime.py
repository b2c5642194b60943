"""HAProxy's runtime API, over its socket: maps, and the servers behind it."""

import csv
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path

from ...errors import NoAnswerError
from .config.names import AUTHORITY, BACKENDS, ENDED_S, SEQUENCE_LIVES_S, SEQUENCES_TABLE
from .settings import Upstream

__all__ = ["Runtime"]

TIMEOUT_S = 10.0
ENTRIES_AT_A_TIME = 500
VERSION = re.compile(r"New version created: (\d+)")
# A key is a tenant, a model and a correlation id, with "|" between them.
SEQUENCE = re.compile(r"0x\w+: key=((?:\\.|[^\s\\])*) .*\bexp=(\d+) .*\bserver_key=(\S+)")
ESCAPED = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(.))")
OWNER = re.compile(r"0x\w+ (.*) \S+ (\d+)")
PIECE = 65536


class Runtime:
    """socket: that of HAProxy, level admin. Every method raises `NoAnswerError` if it does not do as told."""

    def __init__(self, path: Path):
        self.path = path

    def ask(self, command: str) -> str:
        """One command; what it prints."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(str(self.path))
                connection.sendall(f"{command}\n".encode())
                answer = b""
                while piece := connection.recv(PIECE):
                    answer += piece
        except OSError as error:
            raise NoAnswerError(f"HAProxy does not answer at {self.path}: {error}") from None
        return answer.decode(errors="replace").strip()

    def tell(self, command: str) -> None:
        """A command that prints nothing where it succeeds."""
        if said := self.ask(command):
            raise NoAnswerError(f"HAProxy refused `{command.splitlines()[0]}`: {said}")

    def replace_map(self, file: Path, entries: Mapping[str, str]) -> None:
        """Whoever looks something up sees all of the old map or all of the new one."""
        if not (version := VERSION.search(said := self.ask(f"prepare map {file}"))):
            raise NoAnswerError(f"HAProxy does not take the map {file}: {said}")
        lines = [f"{key} {value}" for key, value in entries.items()]
        for start in range(0, len(lines), ENTRIES_AT_A_TIME):
            payload = "\n".join(lines[start : start + ENTRIES_AT_A_TIME])
            self.tell(f"add map @{version[1]} {file} <<\n{payload}\n")
        self.tell(f"commit map @{version[1]} {file}")

    def place(self, slot: str, upstream: Upstream) -> None:
        """Say where the server of a slot is, which is in maintenance until `state(slot, "ready")`."""
        for backend in BACKENDS:
            port = upstream.http if backend == AUTHORITY else upstream.grpc
            self.ask(f"set server {backend}/{slot} addr {upstream.host} port {port}")  # says what it changed
            self.tell(f"set server {backend}/{slot} weight {0 if upstream.candidate else 1}")
        self.tell(f"set server {AUTHORITY}/{slot} check-port {upstream.status or upstream.http}")

    def state(self, slot: str, state: str) -> None:
        """ready; drain: no further requests, but those of its sequences; maint: none at all."""
        self.tell(f"set server {AUTHORITY}/{slot} state {state}")

    def statistics(self) -> dict[tuple[str, str], dict[str, str]]:
        """What `show stat` tells, by backend and server."""
        rows = csv.DictReader(self.ask("show stat").lstrip("# ").splitlines())
        return {(row["pxname"], row["svname"]): row for row in rows}

    def in_flight(self, slot: str) -> int:
        """Requests that the server of a slot is at."""
        statistics = self.statistics()
        return sum(int(statistics[backend, slot]["scur"] or 0) for backend in BACKENDS)

    def sequences(self, slot: str, owners: Path, within_s: float) -> int:
        """Sequences under way on the server of a slot: with a request within so many seconds, and no end.

        owners: the map of whose they are, where the end of one leaves it a few seconds.
        """
        entries = map(SEQUENCE.match, self.ask(f"show table {SEQUENCES_TABLE}").splitlines())
        recent = {
            _unescaped(entry[1]).split("|", 2)[2]
            for entry in entries
            if entry and entry[3] == slot and SEQUENCE_LIVES_S - int(entry[2]) / 1000 <= within_s
        }
        if not recent:
            return 0
        owned = map(OWNER.fullmatch, self.ask(f"show map {owners}").splitlines())
        goes_on_until = time.time() + ENDED_S
        return len(recent & {entry[1] for entry in owned if entry and int(entry[2]) > goes_on_until})

    def is_up(self, slot: str) -> bool:
        """Whether its checks succeed, and requests of every kind reach it."""
        statistics = self.statistics()
        return all(statistics[backend, slot]["status"].startswith("UP") for backend in BACKENDS)


def _unescaped(key: str) -> str:
    """As it was, of what HAProxy writes with backslashes."""
    return ESCAPED.sub(
        lambda found: bytes.fromhex(found[1].decode()) if found[1] else found[2], key.encode()
    ).decode(errors="replace")
