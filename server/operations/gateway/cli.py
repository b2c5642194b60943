"""`python -m server --gateway`, and the command `gateway`."""

import argparse
import contextlib
import functools
import json
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...arguments import add_command, add_verify_key, port_number
from ...environment.place import COMMAND
from ...environment.ports import choose_ports, claimed
from ...environment.trust.keys import read_keys
from ...environment.trust.verified import VerifiedRepository
from ...errors import NoAnswerError, ServerError, StartError
from ...running.process import TritonServer
from ...watching.notify import notify
from ...watching.status_page import StatusPage
from ...watching.traces import TraceStore
from ..control.conversation import ask, run_folder
from .config.files import lookups, write_all, write_maps
from .config.files import write as write_file
from .fleet import MOST_MEMBERS, Fleet
from .gateway import TLS_FILE, Gateway, Pair
from .keys import KEYS_FILE, KeysError, read
from .settings import KIB, MIB, Settings, SettingsError, Tokens, Upstream, numbered

__all__ = [
    "GATEWAY_DESCRIPTION",
    "add_gateway_arguments",
    "add_options",
    "run_gateway",
    "serve",
]

GATEWAY_DESCRIPTION = f"""\
Talk to the gateway of a running `{COMMAND} --gateway`, or write its configuration for containers. `scale` and
`restart` add new servers before they drain old ones, so no request is lost."""
PUBLIC_KEY_FILE = "tokens.pem"
CONTAINER_FOLDER, CONTAINER_SOCKET = Path("/usr/local/etc/haproxy"), Path("/tmp/haproxy.sock")
UPSTREAM = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_.-]+):(\d{1,5}):(\d{1,5})(?::(\d{1,5}))?")
STATUS, SCALE, RESTART, RENDER = "status", "scale", "restart", "render"
GATEWAY_VERBS = {STATUS: "gateway", SCALE: "scale", RESTART: "restart"}


# --- options


def add_options(parser: argparse._ArgumentGroup | argparse.ArgumentParser, *, local: bool = True) -> None:
    """Those of the gateway; local: with those that a configuration for containers has no use for."""
    option = parser.add_argument
    if local:
        option(
            "--gateway",
            action="store_true",
            help="put HAProxy in front: keys, limits, several servers; --address is then where it listens",
        )
        option(
            "--servers", type=_servers, default=1, metavar="N", help="tritonservers behind it (default: 1)"
        )
        option("--gateway-log", type=Path, metavar="FILE", help="access log, JSON lines (default: stderr)")
    option(
        "--gateway-port",
        type=port_number,
        default=8443,
        metavar="PORT",
        help="HTTP and gRPC alike (default: %(default)s)",
    )
    option(
        "--gateway-metrics-port",
        type=port_number,
        default=8404,
        metavar="PORT",
        help="for Prometheus, on loopback (default: %(default)s)",
    )
    option(
        "--gateway-keys",
        type=Path,
        default=KEYS_FILE,
        metavar="FILE",
        help=f"who may ask; see `{COMMAND} keys` (default: %(default)s)",
    )
    option(
        "--gateway-certificate", type=Path, metavar="PEM", help="speak TLS with it; other machines need that"
    )
    option("--gateway-certificate-key", type=Path, metavar="PEM", help="its key, where that is another file")
    option(
        "--gateway-jwt-secret", type=Path, metavar="FILE", help="take tokens (HS256) that were signed with it"
    )
    option("--gateway-jwt-public-key", type=Path, metavar="PEM", help="take tokens (RS256) that it verifies")
    option("--gateway-jwt-audience", default="", metavar="AUD", help="what `aud` of a token has to be")
    option("--gateway-jwt-issuer", default="", metavar="ISS", help="what `iss` of a token has to be")
    option(
        "--gateway-origins",
        default="",
        metavar="ORIGINS",
        help="whose pages may ask from a browser, as https://example.org, with commas",
    )
    option(
        "--gateway-max-body",
        type=float,
        default=16.0,
        metavar="MIB",
        help="of a request; larger ones are refused (default: %(default)g)",
    )
    option(
        "--gateway-buffer",
        type=int,
        default=256,
        metavar="KIB",
        help="requests up to this size are sent again if their server dies (default: %(default)s)",
    )
    option(
        "--gateway-concurrency",
        type=int,
        default=0,
        metavar="N",
        help="requests at a time for each server; others wait 25 ms, then are refused (default: 2 for each "
        "core, 4 at least)",
    )


def _servers(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_MEMBERS:
        raise argparse.ArgumentTypeError(f"{text!r} servers cannot be; give 1 to {MOST_MEMBERS}")
    return int(text)


def settings_of(
    arguments: argparse.Namespace, folder: Path, address: str, public_key: Path | None, **other: Any
) -> Settings:
    """What the options say; public_key: where HAProxy finds that of tokens. Raises `SettingsError`."""
    tokens = None
    if arguments.gateway_jwt_secret or arguments.gateway_jwt_public_key:
        secret = arguments.gateway_jwt_secret
        try:
            text = secret.read_text().strip() if secret else ""
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the secret of tokens cannot be read: {error}") from None
        key = str(public_key) if arguments.gateway_jwt_public_key else ""
        tokens = Tokens(text, key, arguments.gateway_jwt_audience, arguments.gateway_jwt_issuer)
    elif arguments.gateway_jwt_audience or arguments.gateway_jwt_issuer:
        raise SettingsError(
            "an audience or an issuer of tokens needs --gateway-jwt-secret or --gateway-jwt-public-key"
        )
    if arguments.gateway_certificate_key and not arguments.gateway_certificate:
        raise SettingsError("--gateway-certificate-key needs --gateway-certificate")
    return Settings(
        folder,
        address=address,
        certificate=str(folder / TLS_FILE) if arguments.gateway_certificate else "",
        tokens=tokens,
        origins=tuple(origin for origin in arguments.gateway_origins.split(",") if origin),
        max_body_bytes=int(arguments.gateway_max_body * MIB),
        buffer_bytes=arguments.gateway_buffer * KIB,
        concurrency=arguments.gateway_concurrency,
        **other,
    )


# --- serve


def serve(
    arguments: argparse.Namespace,
    make: Callable[[], TritonServer],
    models_served: Callable[[TritonServer], list[str]],
    controlled: Callable[[Fleet], AbstractContextManager[object]],
    traces: TraceStore | None = None,
) -> int:
    """Start, say what is served, and watch until the end; the exit code.

    make: a tritonserver on free ports of loopback. models_served: lines about its models. controlled: lets
    commands reach the fleet while the context is open. traces: kept there, where they are kept.
    """
    try:
        with contextlib.ExitStack() as stack:
            address = "127.0.0.1" if arguments.address == "localhost" else arguments.address
            # HAProxy comes up after the servers, and comes up again after a crash: its ports stay its own.
            port = choose_ports(address, {"gateway": arguments.gateway_port})["gateway"]
            stack.enter_context(claimed(address, port))
            asked = {"gateway-metrics": arguments.gateway_metrics_port}
            metrics_port = choose_ports("127.0.0.1", asked)["gateway-metrics"]
            stack.enter_context(claimed("127.0.0.1", metrics_port))
            public_key = arguments.gateway_jwt_public_key
            settings = settings_of(
                arguments,
                run_folder(port),
                address,
                public_key and public_key.resolve(),
                port=port,
                metrics_port=metrics_port,
            )
            settings.check_exposure()
            read(arguments.gateway_keys)  # before models are loaded
            log = 2
            if arguments.gateway_log:
                log = _log_file(arguments.gateway_log)
                stack.callback(os.close, log)
            certificate, key = arguments.gateway_certificate, arguments.gateway_certificate_key
            gateway = Gateway(
                settings,
                arguments.gateway_keys,
                tls=Pair(certificate, key) if certificate else None,
                log=log,
                restart=not arguments.no_restart,
            )
            fleet = Fleet(gateway, make, restart_dead=not arguments.no_restart)
            signal.signal(signal.SIGUSR1, functools.partial(_announce, fleet))
            page = stack.enter_context(StatusPage(fleet, address, arguments.status_port, traces))
            stack.callback(fleet.stop)
            fleet.start(arguments.servers)
            stack.enter_context(controlled(fleet))
            with contextlib.suppress(NoAnswerError):  # one has just died, which is told in a moment
                print("\n".join(_what_is_served(fleet, page, models_served)), flush=True)
            notify("READY=1")
            return fleet.watch()
    except KeyboardInterrupt:
        return 0
    except ServerError as error:
        print(f"server: {error}", file=sys.stderr)
        return 1


def _announce(fleet: Fleet, *_: object) -> None:
    fleet.draining = True


def _log_file(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    except OSError as error:
        raise StartError(f"the access log {path} cannot be written: {error.strerror}") from None


def _what_is_served(
    fleet: Fleet, page: StatusPage, models_served: Callable[[TritonServer], list[str]]
) -> list[str]:
    told = fleet.describe()
    first = next(iter(fleet.members.values())).server
    address = fleet.gateway.url.partition("://")[2]
    return [
        *models_served(first),
        *(
            f"  {slot:7} HTTP {server['http']}, gRPC {server['grpc']}"
            for slot, server in told["servers"].items()
        ),
        f"  gateway {fleet.gateway.url} and gRPC {address}: keys of {fleet.gateway.keys}",
        f"  metrics {told['gateway']['metrics']}",
        f"  status  {page.url}/ready and /metrics",
        f"  socket  {told['gateway']['socket']}",
        "Ctrl-C stops it."
        if not fleet.troubles()
        else "Not all models are ready: /ready of the status port says no.",
    ]


# --- gateway


def add_gateway_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `gateway`."""
    commands = parser.add_subparsers(
        dest="gateway_command", metavar="COMMAND", title="commands", required=True
    )
    status = add_command(commands, STATUS, "tell of the gateway and its servers")
    scale = add_command(commands, SCALE, "run so many servers, from now on")
    scale.add_argument("servers", type=_servers, metavar="N", help=f"1 to {MOST_MEMBERS}")
    restart = add_command(commands, RESTART, "replace servers by new ones, one after the other")
    restart.add_argument("slots", nargs="*", metavar="SERVER", help="s1, s2, ... (default: all)")
    for command in (status, scale, restart):
        command.add_argument(
            "--gateway-port", type=port_number, default=8443, metavar="PORT", help="default: %(default)s"
        )
        command.add_argument("--json", action="store_true", help="for scripts")
    render = add_command(commands, RENDER, "write HAProxy's configuration for containers")
    render.add_argument("--output", type=Path, required=True, metavar="DIR", help="to write to")
    render.add_argument(
        "--server",
        type=upstream,
        action="append",
        required=True,
        metavar="HOST:HTTP:GRPC[:STATUS]",
        help="a server and its ports; may be repeated",
    )
    render.add_argument(
        "--folder",
        type=Path,
        default=CONTAINER_FOLDER,
        metavar="DIR",
        help="where HAProxy will find what is in DIR (default: %(default)s)",
    )
    render.add_argument("--address", default="0.0.0.0", help="to listen on (default: %(default)s)")
    render.add_argument(
        "--resolver",
        default="",
        metavar="HOST:PORT",
        help="name server that is asked again and again for the addresses behind HOST, which may be several; "
        "`system`: those of /etc/resolv.conf",
    )
    render.add_argument(
        "--model-repository",
        type=Path,
        default=Path("model_repository"),
        metavar="REPOSITORY",
        help="its models",
    )
    add_verify_key(render, "go by a configuration only as the owner of this key signed it, as the servers do")
    add_options(render, local=False)


def upstream(text: str) -> Upstream:
    """HOST:HTTP:GRPC[:STATUS]. Raises `ArgumentTypeError`."""
    if not (found := UPSTREAM.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:HTTP:GRPC or HOST:HTTP:GRPC:STATUS")
    host, http, grpc, status = found.groups("0")
    return Upstream(host.strip("[]"), int(http), int(grpc), int(status))


def run_gateway(arguments: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        if arguments.gateway_command == RENDER:
            render_for_containers(arguments)
            return 0
        request: dict[str, Any] = {"do": GATEWAY_VERBS[arguments.gateway_command]}
        if arguments.gateway_command == SCALE:
            request["servers"] = arguments.servers
        elif arguments.gateway_command == RESTART:
            request["slots"] = arguments.slots
        told = ask(arguments.gateway_port, request)
    except ServerError as error:
        print(f"server: {error}", file=sys.stderr)
        return 1
    print(json.dumps(told) if arguments.json else "\n".join(_as_lines(told)))
    return 0


def _as_lines(told: dict[str, Any]) -> list[str]:
    gateway = told["gateway"]
    lines = [f"gateway {gateway['url']}  process {gateway['pid']}, started again {gateway['restarts']} times"]
    lines += [f"  trouble {gateway['trouble']}"] if gateway["trouble"] else []
    return lines + [
        f"  {slot:4} {server['state']:9} HTTP {server['http']}, gRPC {server['grpc']}, guard {server['pid']}"
        for slot, server in told["servers"].items()
    ]


def render_for_containers(arguments: argparse.Namespace) -> None:
    """Write the configuration and all that belongs to it. Raises a `ServerError`."""
    settings = settings_of(
        arguments,
        arguments.folder,
        arguments.address,
        arguments.folder / PUBLIC_KEY_FILE,
        port=arguments.gateway_port,
        metrics_address=arguments.address,
        metrics_port=arguments.gateway_metrics_port,
        resolver=arguments.resolver,
        socket=CONTAINER_SOCKET,
        asks_launchers=all(server.status for server in arguments.server),
    )
    output: Path = arguments.output
    write_all(output, settings, numbered(arguments.server))
    if arguments.gateway_certificate:
        pair = Pair(arguments.gateway_certificate, arguments.gateway_certificate_key)
        write_file(output / TLS_FILE, pair.text())
    if arguments.gateway_jwt_public_key:
        write_file(output / PUBLIC_KEY_FILE, Pair(arguments.gateway_jwt_public_key).text())
    try:
        grants = read(arguments.gateway_keys)
    except KeysError:
        if arguments.gateway_keys.exists():
            raise
        grants = []
    repository: Path = arguments.model_repository
    if not arguments.verify_key:
        write_maps(output, lookups(grants, [repository]))
        return
    with tempfile.TemporaryDirectory(prefix="triton-vision-") as folder:
        keys = read_keys(arguments.verify_key, repository)
        models = VerifiedRepository(repository, keys, Path(folder), suffix=".pbtxt")
        models.take_all()
        write_maps(output, lookups(grants, [models.path]))
