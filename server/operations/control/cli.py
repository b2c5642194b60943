"""The commands `status`, `stop` and `reload`, to launchers that run on this machine."""

import argparse
import json
import os
import select
import sys
from typing import Any

from ...arguments import port_number, seconds
from ...environment.place import COMMAND
from ...errors import NoAnswerError, ServerError
from .conversation import StandsStillError, ask, connected, conversation, run_folders

__all__ = [
    "RELOAD_DESCRIPTION",
    "STATUS_DESCRIPTION",
    "STOP_DESCRIPTION",
    "add_port",
    "add_reload_arguments",
    "add_status_arguments",
    "add_stop_arguments",
    "chosen_port",
    "run_reload",
    "run_status",
    "run_stop",
]

STATUS_DESCRIPTION = """\
What your launchers on this machine serve: servers, models and versions, gateway, a rollout under way."""
STOP_DESCRIPTION = """\
Stop a launcher that runs on this machine, as Ctrl-C does: after the requests in flight are answered."""
RELOAD_DESCRIPTION = f"""\
Let a launcher that runs serve what its repository has now: a model's versions and configuration, or all of
it. The old version answers until the new one does, on one server after the other. Nothing is compared:
`{COMMAND} rollout` does that."""
STOP_TIMEOUT_S = 90.0
TOLD = {"port", "pid", "repository", "servers", "models", "held", "troubles", "gateway", "rollout"}


def add_port(parser: argparse.ArgumentParser) -> None:
    """`--port`, which launcher is meant."""
    parser.add_argument(
        "--port",
        type=port_number,
        metavar="PORT",
        help="the launcher whose clients ask there: its gateway's, else its HTTP port (default: the one that "
        "runs)",
    )


def add_status_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `status`."""
    add_port(parser)
    parser.add_argument("--json", action="store_true", help="for scripts")


def add_stop_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `stop`."""
    add_port(parser)
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=STOP_TIMEOUT_S,
        metavar="SECONDS",
        help="to wait for its end (default: %(default)g)",
    )


def add_reload_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `reload`."""
    parser.add_argument("model", nargs="?", default="", metavar="MODEL", help="that one alone")
    add_port(parser)
    parser.add_argument("--json", action="store_true", help="for scripts")


def running() -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """What the launchers of this user tell of themselves, and what keeps others from it, by port."""
    found, standing_still = {}, {}
    for port in run_folders():
        try:
            told = ask(port, {"do": "status"})
        except StandsStillError as error:
            standing_still[port] = str(error)
        except NoAnswerError:  # it was killed, or starts
            continue
        else:
            if told.keys() >= TOLD:  # not by another release
                found[port] = told
    return found, standing_still


def chosen_port(arguments: argparse.Namespace) -> int:
    """Of the launcher that is meant. Raises `NoAnswerError` where none or several run."""
    if arguments.port is not None:
        return int(arguments.port)
    ports = []
    for port in run_folders():
        try:
            with connected(port):
                ports.append(port)
        except NoAnswerError:
            continue
    if not ports:
        raise NoAnswerError(f"no launcher of yours runs on this machine; `{COMMAND}` starts one")
    if len(ports) > 1:
        raise NoAnswerError(f"launchers run at ports {', '.join(map(str, ports))}; say which with --port")
    return ports[0]


def run_status(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 1 where none runs, or one has troubles."""
    found, standing_still = running()
    if (chosen := arguments.port) is not None:
        found = {port: told for port, told in found.items() if port == chosen}
        standing_still = {port: why for port, why in standing_still.items() if port == chosen}
    for why in standing_still.values():
        print(f"server: {why}", file=sys.stderr)
    if arguments.json:
        print(json.dumps({"launchers": list(found.values())}))
    elif found:
        print("\n\n".join("\n".join(status_lines(told)) for told in found.values()))
    elif not standing_still:
        where = f"at port {arguments.port}" if arguments.port is not None else "on this machine"
        print(f"no launcher of yours runs {where}; `{COMMAND}` starts one", file=sys.stderr)
    return 0 if found and not any(told["troubles"] for told in found.values()) else 1


def status_lines(told: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"port {told['port']}: process {told['pid']} serves {told['repository']}"]
    if gateway := told["gateway"]:
        lines.append(
            f"  gateway {gateway['url']}, process {gateway['pid']}, started again {gateway['restarts']} times"
        )
        lines.append(f"  socket  {gateway['socket']}")
    for name, server in told["servers"].items():
        state = server.get("state", "ready")
        lines.append(
            f"  {name:7} {state}, HTTP {server['http']}, gRPC {server['grpc']}, process {server['pid']}"
        )
    for model, versions in sorted(told["models"].items()):
        served = [f"{version} ({', '.join(servers)})" for version, servers in versions.items()]
        lines.append(f"  model   {model}: {'version ' + ', '.join(served) if served else 'not ready'}")
    for model, held in told["held"].items():
        at = ", ".join(map(str, held["versions"]))
        lines.append(f"  held    {model} at version {at}, not {held['against']}: {held['why']}")
    if rollout := told["rollout"]:
        lines.append(f"  rollout {rollout_line(rollout)}")
    return lines + [f"  trouble {name}: {why}" for name, why in told["troubles"].items()]


def rollout_line(told: dict[str, Any]) -> str:
    """One line on a rollout under way."""
    old, new = told["old"], told["new"]
    agreement = "-" if told["agreement"] is None else f"{told['agreement']:.1%}"
    return (
        f"{told['model']} {told['version']} {told['stage']} {told['share']:.1%}, {told['seconds']:.0f} s: "
        f"{new['requests']} of {told['asked']} requests, errors {old['errors']} old {new['errors']} new, "
        f"p50 {old['p50_ms']:.1f} old {new['p50_ms']:.1f} new, "
        f"p99 {old['p99_ms']:.1f} old {new['p99_ms']:.1f} new ms, agreement {agreement}"
    )


def run_stop(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 0 once it has ended."""
    try:
        port = chosen_port(arguments)
        pid = int(ask(port, {"do": "status"})["pid"])
        process = os.pidfd_open(pid)
        try:
            ask(port, {"do": "stop"})
            print(f"stopping process {pid}, at port {port}", flush=True)
            ended, _, _ = select.select([process], [], [], arguments.timeout)
        finally:
            os.close(process)
    except (ServerError, OSError) as error:
        print(f"server: {error}", file=sys.stderr)
        return 1
    if not ended:
        print(
            f"server: process {pid} has not ended in {arguments.timeout:g} s; it goes on stopping",
            file=sys.stderr,
        )
        return 1
    print("it has ended")
    return 0


def run_reload(arguments: argparse.Namespace) -> int:
    """Returns the exit code: 1 where a model could not be loaded, which goes on as it was."""
    told: dict[str, Any] = {}
    try:
        with connected(chosen_port(arguments)) as connection:
            for told in conversation(connection, {"do": "reload", "model": arguments.model}):
                if not arguments.json and "loading" in told:
                    print(f"loading {told['loading']} on {told['server']}", flush=True)
    except ServerError as error:
        print(f"server: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(told))
    else:
        for name in told.get("unloaded", []):
            print(f"unloaded {name}")
        for name in told.get("held", []):
            print(f"{name} is held at its version; `{COMMAND} reload {name}` takes the repository's")
        for name, why in told.get("failed", {}).items():
            print(f"server: {name} could not be loaded, and goes on as it was: {why}", file=sys.stderr)
    return 1 if told.get("failed") or "reloaded" not in told else 0
