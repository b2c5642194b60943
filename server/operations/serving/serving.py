"""Start, say what is served, and watch until the end: with HAProxy in front, or without."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence

from ...environment.holds import Holds
from ...environment.installation import find_installation
from ...environment.place import COMMAND
from ...environment.ports import choose_ports, is_address, is_loopback, url
from ...environment.signals import stop_at_signals
from ...errors import NoAnswerError, ServerError
from ...running.process import TritonServer
from ...running.run import has_plain_grpc
from ...tfserving.options import check_options, given_options
from ...watching.absences import Absences
from ...watching.gateway import TFServingGateway
from ...watching.notify import notify
from ...watching.status_page import StatusPage
from ...watching.supervisor import Supervisor
from ...watching.traces import TraceStore
from ..control.conversation import remove_leftovers
from ..doctor.release import facts_here
from ..doctor.security import open_advisories
from ..gateway import cli as gateway_cli
from ..reach import reaching_fleet, reaching_server
from .telling import how_it_stopped, models_served, say_what_is_served, tell_of_plans

__all__ = ["TFSERVING_PREFIX", "serve", "why_not_exposed"]

TFSERVING_PREFIX = "tfserving-"  # of its options, beside the launcher's own


def serve(arguments: argparse.Namespace, passed_on: Sequence[str]) -> int:
    """Start, say what is served, and watch until the end; `passed_on` goes to tritonserver as it is."""
    if refusal := why_not_exposed(arguments):
        print(f"server: {refusal}", file=sys.stderr)
        return 2
    if not arguments.verify_key:  # else the repository is not read before it is verified
        tell_of_plans(arguments.model_repository)
    stop_at_signals()
    remove_leftovers()
    try:  # the port is known before the start, as tritonserver sends its spans there
        holds = Holds(arguments.model_repository)
        arguments.status_port = choose_ports(arguments.address, {"status": arguments.status_port})["status"]
    except ServerError as error:
        print(f"server: {error}", file=sys.stderr)
        return 1
    traces = TraceStore(arguments.gateway_log) if arguments.trace else None
    traces_url = f"http://{url(arguments.address, arguments.status_port)}/v1/traces" if traces else None
    if arguments.gateway:
        return serve_behind_gateway(arguments, passed_on, holds, traces, traces_url)
    server = TritonServer(
        arguments.model_repository,
        address=arguments.address,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        opened=arguments.open,
        arguments=passed_on,
        log=arguments.log,
        start_timeout_s=arguments.start_timeout,
        holds=holds,
        verify_keys=arguments.verify_key,
        traces_url=traces_url,
    )
    absences = Absences()
    supervisor = Supervisor(server, restart=not arguments.no_restart, tell_absent=absences.tell)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(supervisor, "draining", True))
    gateway, served = None, False
    if arguments.tfserving:
        try:
            check_options(arguments, TFSERVING_PREFIX)
        except ServerError as error:
            print(f"server: {error}", file=sys.stderr)
            return 1
        options = given_options(arguments, TFSERVING_PREFIX)
        gateway = TFServingGateway(tuple(options), restart=not arguments.no_restart)
    try:
        with contextlib.ExitStack() as stack:
            page = stack.enter_context(
                StatusPage(supervisor, arguments.address, arguments.status_port, traces, absences)
            )
            stack.enter_context(server)
            if gateway:  # entered last, so that it is drained before tritonserver is
                stack.enter_context(gateway.serving(server.http_url, server.address))
                supervisor.gateway = gateway
            if arguments.verify_key:
                tell_of_plans(server.served_repository)
            stack.enter_context(reaching_server(server, supervisor, holds))
            supervisor.starting = False
            with contextlib.suppress(NoAnswerError):  # it has just died, which is told in a moment
                say_what_is_served(server, page, gateway)
            notify("READY=1")
            served = True
            return supervisor.watch()
    except KeyboardInterrupt:
        return how_it_stopped(server) if served else 0
    except ServerError as error:
        print(f"server: {error}", file=sys.stderr)
        return 1


def serve_behind_gateway(
    arguments: argparse.Namespace,
    passed_on: Sequence[str],
    holds: Holds,
    traces: TraceStore | None,
    traces_url: str | None,
) -> int:
    """As `serve`, with HAProxy in front of one server or several, which listen on free ports of loopback."""
    if arguments.tfserving:
        print(
            "server: --tfserving has no keys, so it does not go with --gateway; leave one out",
            file=sys.stderr,
        )
        return 2
    if not has_plain_grpc(passed_on):
        print("server: --gateway asks tritonserver over gRPC, without TLS; leave that on", file=sys.stderr)
        return 2

    def make() -> TritonServer:
        return TritonServer(
            arguments.model_repository,
            opened=arguments.open,
            arguments=passed_on,
            log=arguments.log,
            start_timeout_s=arguments.start_timeout,
            holds=holds,
            verify_keys=arguments.verify_key,
            traces_url=traces_url,
        )

    return gateway_cli.serve(
        arguments, make, models_served, lambda fleet: reaching_fleet(fleet, holds), traces
    )


def why_not_exposed(arguments: argparse.Namespace) -> str:
    """Two lines where pip Triton was asked to let other machines in without `--expose`; "" elsewhere.

    Only pip's is refused: it stays at the release of its wheel, a container is replaced by a newer one.
    """
    if arguments.expose or is_loopback(arguments.address) or not is_address(arguments.address):
        return ""  # what is no address is told when it is started
    with contextlib.suppress(ServerError):  # told when it is started
        if find_installation().kind == "pip":
            facts = facts_here()
            release, image = (str(facts[name]["value"]) for name in ("release", "container_image"))
            known = f"{len(open_advisories(release))} known vulnerabilities (`{COMMAND} doctor --advisories`)"
            return (
                f"{arguments.address} lets other machines in, and pip Triton {release} has {known};\n"
                f"serve them with {image}, or add --expose where you trust all who reach the port"
            )
    return ""
