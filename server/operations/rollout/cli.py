"""The command `rollout`, and the launcher's side of it."""

import argparse
import contextlib
import json
import math
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from ...arguments import seconds
from ...environment.holds import Holds
from ...environment.place import COMMAND
from ...errors import ServerError, StartError
from ..control.cli import add_port, chosen_port, rollout_line
from ..control.conversation import Client, connected, conversation
from ..gateway.fleet import Fleet
from .plan import Plan, PlanError
from .rollout import FAILED, PROMOTED, ROLLED_BACK, Rollout

__all__ = ["DESCRIPTION", "EPILOG", "Rollouts", "add_arguments", "run"]

DESCRIPTION = f"""\
Try a new version of a model on a running `{COMMAND} --gateway`, beside the old one, then serve it to
everybody or take it back, as what was seen decides.

The new version, which is in the repository already, is loaded by a server of its own. A share of the requests
is copied first: both versions are asked, the answers are compared and go to nobody. Then the new version
answers that share. Errors, p50 and p99 of the times and the answers decide; no request fails as one version
takes over from the other. Ctrl-C rolls back. A version that was rolled back is held back, over restarts too,
until it is rolled out or `{COMMAND} reload MODEL` takes it."""
EPILOG = """\
exit status: 0 promoted, 1 could not, 2 wrong usage, 3 rolled back"""
EXITS = {PROMOTED: 0, FAILED: 1, ROLLED_BACK: 3}
DEFAULTS = Plan("", 1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `rollout`."""
    option = parser.add_argument
    option("model", metavar="MODEL")
    option("--version", type=int, required=True, metavar="N", help="the new one: a folder of the model's")
    option(
        "--canary",
        type=share,
        default=DEFAULTS.share,
        metavar="SHARE",
        help="of the requests, which are copied, then answered by the new version, as 10%% (default: 10%%)",
    )
    option(
        "--shadow", action="store_true", help="copy only: no client gets its answers before it is promoted"
    )
    option(
        "--through",
        action="append",
        default=[],
        metavar="MODEL",
        help="a model whose code calls this one, so that its requests count; may be repeated (those "
        "of ensembles do anyway)",
    )
    option(
        "--requests",
        type=int,
        default=DEFAULTS.requests,
        metavar="N",
        help="each stage takes so many of either version at least (default: %(default)s)",
    )
    option(
        "--seconds",
        type=duration,
        default=DEFAULTS.seconds,
        metavar="S",
        help="and so long (default: %(default)g)",
    )
    option(
        "--timeout",
        type=seconds,
        default=DEFAULTS.timeout_s,
        metavar="S",
        help="for all of it; with too few requests until then it rolls back (default: %(default)g)",
    )
    option(
        "--max-errors",
        type=share,
        default=DEFAULTS.max_errors,
        metavar="SHARE",
        help="that may fail more than with the old version (default: 0.5%%)",
    )
    option(
        "--max-slowdown",
        type=float,
        default=DEFAULTS.max_slowdown,
        metavar="FACTOR",
        help="of p50 and p99; 5 ms more are always allowed (default: %(default)g)",
    )
    option(
        "--min-agreement",
        type=share,
        default=DEFAULTS.min_agreement,
        metavar="SHARE",
        help="of the copied requests with the same answer: class, text or value (default: 95%%)",
    )
    option("--max-difference", type=float, metavar="X", help="of any number in the answers (default: any)")
    option(
        "--record",
        type=Path,
        metavar="FOLDER",
        help="keep the copied requests and their answers there (default: nothing is kept)",
    )
    add_port(parser)
    option("--json", action="store_true", help="lines for scripts; the last one says what it came to")


def share(text: str) -> float:
    """10% or 0.1, as 0.1. Raises `ArgumentTypeError`."""
    with contextlib.suppress(ValueError):
        number = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        if 0 <= number <= 1:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no share; write it as 10%")


def duration(text: str) -> float:
    """0 or more. Raises `ArgumentTypeError`."""
    with contextlib.suppress(ValueError):
        if 0 <= (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} is no time; give seconds, 0 or more")


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        plan = Plan(
            arguments.model,
            arguments.version,
            share=arguments.canary,
            shadow=arguments.shadow,
            through=tuple(arguments.through),
            requests=arguments.requests,
            seconds=arguments.seconds,
            timeout_s=arguments.timeout,
            max_errors=arguments.max_errors,
            max_slowdown=arguments.max_slowdown,
            min_agreement=arguments.min_agreement,
            max_difference=arguments.max_difference,
            record=str(arguments.record.resolve()) if arguments.record else None,
        )
    except PlanError as error:
        print(f"server: {error}", file=sys.stderr)
        return 2
    told: dict[str, Any] = {}
    try:
        with connected(chosen_port(arguments)) as connection:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: take_back(connection))
            for told in conversation(connection, {"do": "rollout", "plan": plan.to_json()}):
                say(told, arguments.json)
    except ServerError as error:
        print(f"server: {error}", file=sys.stderr)
        return 1
    if told.get("stage") in EXITS:
        return EXITS[told["stage"]]
    print(
        "server: the launcher ended; the old version is what it serves when it is started again",
        file=sys.stderr,
    )
    return 1


def take_back(connection: socket.socket) -> None:
    """Tell the launcher that we have enough of it. What it answers is awaited, but for a second Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    print("rolling back; what is served stays as it was", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def say(told: dict[str, Any], as_json: bool) -> None:
    """One line of what a launcher tells."""
    if as_json:
        print(json.dumps(told), flush=True)
    elif told["stage"] in EXITS:
        print(
            f"{told['model']} {told['version']} {told['stage']}"
            + (f": {told['reason']}" if told["reason"] else ""),
            flush=True,
        )
        if told["stage"] != PROMOTED:
            print(
                f"version {told['version']} is held back, over restarts too; roll it out again once it is "
                f"mended, or let `{COMMAND} reload {told['model']}` take what the repository has",
                flush=True,
            )
    elif "text" in told:
        print(f"  {told['text']}", flush=True)
        for version in told.get("leaves", []):
            print(
                f"  version {version} would not be served any more, even if asked for: see version_policy",
                flush=True,
            )
    else:
        print(rollout_line(told), flush=True)


class Rollouts:
    """Those of a launcher, one at a time."""

    def __init__(self, fleet: Fleet, holds: Holds):
        self._fleet, self._holds = fleet, holds
        self._one = threading.Lock()
        self.present: Rollout | None = None

    def describe(self) -> dict[str, Any] | None:
        """The one under way."""
        return self.present.describe() if self.present else None

    def busy(self) -> str:
        """Why nothing else may change models now, or ""."""
        if not self.present:
            return ""
        plan = self.present.plan
        return f"{plan.model} {plan.version} is being rolled out; wait for it, or press Ctrl-C there"

    def answer(self, request: dict[str, Any], client: Client) -> dict[str, Any]:
        """Run one to its end, which is early once the client has left. Raises a `ServerError`."""
        given = request.get("plan")
        if not isinstance(given, dict):
            raise StartError("say what to roll out")
        plan = Plan.from_json(given)
        if not self._one.acquire(blocking=False):
            raise StartError(self.busy() or "another rollout begins")
        try:
            self.present = Rollout(plan, self._fleet, self._holds, client.tell, client.left)
            return self.present.run()
        finally:
            self.present = None
            self._one.release()
