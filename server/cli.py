"""The command line: `serve`, which is what a call without a command does, and `doctor`."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ._version import __version__
from .arguments import add_repository, api_groups, port_number, seconds
from .environment.holds import Holds
from .environment.installation import find_installation
from .environment.output import until_closed
from .environment.place import COMMAND, advice_to_fill
from .environment.plans import plan_faults
from .environment.ports import choose_ports, is_address, is_loopback, url
from .environment.repository import servable_models, unexported_models
from .errors import ServerError, shown
from .operations.control import cli as control_cli
from .operations.doctor import cli as doctor
from .operations.doctor.release import facts_here
from .operations.doctor.security import open_advisories
from .operations.gateway import cli as gateway_cli
from .operations.gateway import keys_cli
from .operations.reach import reaching_fleet, reaching_server
from .operations.rollout import cli as rollout_cli
from .operations.tracing import cli as tracing
from .running.doors import CLOSED_GROUPS
from .running.json_log import standard_error_in_json
from .running.process import START_TIMEOUT_S, TritonServer
from .running.run import has_plain_grpc
from .tfserving.options import add_options as add_tfserving_options
from .tfserving.options import check_options, given_options
from .watching.gateway import Gateway
from .watching.notify import notify
from .watching.status_page import StatusPage
from .watching.supervisor import MOST_RESTARTS, WINDOW_S, Supervisor
from .watching.traces import TraceStore

__all__ = ["main", "parse_arguments"]

DESCRIPTION = """\
Start Triton Inference Server on a model repository: the container's tritonserver where there is one, else
the one in the nvidia-pytriton wheel, which needs neither Docker nor a GPU. Ctrl-C or SIGTERM stops it after
the requests in flight are answered. SIGUSR1 announces that: /ready of the status port says no from then on,
so that balancers send elsewhere, and requests are answered as before."""
EPILOG = f"""\
`{COMMAND} doctor` says what this machine can serve, on a GPU or without, and what to mend.

Where there is no GPU, models that have a configs/cpu.pbtxt are served by it; MODEL_CONFIG_NAME chooses
another name, or none if it is empty.

`{COMMAND} --tfserving` answers clients of TensorFlow Serving as well.

A model whose process dies is loaded again, and tritonserver is started again when it ends by itself,
{MOST_RESTARTS} times in {WINDOW_S / 60:g} minutes at most. Only the launcher can load and unload models.

Arguments after -- go to tritonserver as they are, and win over ours:
  {COMMAND} models -- --log-verbose=1 --model-control-mode=poll --repository-poll-secs=5

exit status: 0 stopped on request, 1 could not start, 2 wrong usage, else tritonserver's own"""
STATUSES = "exit status: 0 done, 1 could not, 2 wrong usage"
SERVE, DOCTOR, TRACE, KEYS, GATEWAY, ROLLOUT = "serve", "doctor", "trace", "keys", "gateway", "rollout"
STATUS, STOP, RELOAD = "status", "stop", "reload"
TEXT, JSON = "text", "json"
PORTS = (("http", 8000), ("grpc", 8001), ("metrics", 8002))
STATUS_PORT = 8003
TFSERVING_PREFIX = "tfserving-"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return until_closed(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    split = argv.index("--") if "--" in argv else len(argv)
    arguments, passed_on = parse_arguments(argv[:split]), argv[split + 1 :]
    runs = {
        DOCTOR: doctor.run,
        TRACE: tracing.run,
        KEYS: keys_cli.run,
        GATEWAY: gateway_cli.run_gateway,
        STATUS: control_cli.run_status,
        STOP: control_cli.run_stop,
        RELOAD: control_cli.run_reload,
        ROLLOUT: rollout_cli.run,
    }
    if run := runs.get(arguments.command):
        return run(arguments)
    if arguments.log_format == TEXT:
        return serve(arguments, passed_on)
    if arguments.log:
        print("server: --log-format json is of standard error; leave --log out", file=sys.stderr)
        return 2
    with standard_error_in_json():
        return serve(arguments, passed_on)


def serve(arguments: argparse.Namespace, passed_on: Sequence[str]) -> int:
    """Start, say what is served, and watch until the end; `passed_on` goes to tritonserver as it is."""
    if refusal := why_not_exposed(arguments):
        print(f"server: {refusal}", file=sys.stderr)
        return 2
    if not arguments.verify_key:  # else the repository is not read before it is verified
        tell_of_plans(arguments.model_repository)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to stop take the same path
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
    supervisor = Supervisor(server, restart=not arguments.no_restart)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(supervisor, "draining", True))
    gateway, served = None, False
    if arguments.tfserving:
        try:
            check_options(arguments, TFSERVING_PREFIX)
        except ServerError as error:
            print(f"server: {error}", file=sys.stderr)
            return 1
        options = given_options(arguments, TFSERVING_PREFIX)
        gateway = Gateway(tuple(options), restart=not arguments.no_restart)
    try:
        with contextlib.ExitStack() as stack:
            page = stack.enter_context(
                StatusPage(supervisor, arguments.address, arguments.status_port, traces)
            )
            stack.enter_context(server)
            if gateway:  # entered last, so that it is drained before tritonserver is
                stack.enter_context(gateway.serving(server.http_url, server.address))
                supervisor.gateway = gateway
            if arguments.verify_key:
                tell_of_plans(server.served_repository)
            stack.enter_context(reaching_server(server, supervisor, holds))
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


def how_it_stopped(server: TritonServer) -> int:
    """Exit status after a stop that was asked for; what tritonserver ended with is said where it is not 0."""
    status = server.stop()
    if not status or server.run.gave_up:
        return 0
    print(
        f"server: tritonserver ended with status {status} while it stopped: requests in flight may be lost; "
        "its log above says more",
        file=sys.stderr,
    )
    return status


def tell_of_plans(repository: Path) -> None:
    """Print a line for each TensorRT plan that this release would not load, as tritonserver fails on it."""
    facts = facts_here()
    release, tensorrt = (str(facts[name]["value"]) for name in ("release", "tensorrt"))
    with contextlib.suppress(ServerError):  # told when it is started
        for line in plan_faults(repository, servable_models(repository), release, tensorrt):
            print(f"server: {line}", file=sys.stderr)


def say_what_is_served(server: TritonServer, page: StatusPage, gateway: Gateway | None = None) -> None:
    """Print each model with its state, why it failed or what it lacks, and the addresses."""
    lines = [
        *models_served(server),
        f"  HTTP    http://{server.http_url}",
        f"  gRPC    {server.grpc_url}",
        f"  metrics {server.metrics_url}",
        f"  status  {page.url}/ready and /metrics",
        *([f"  TF Serving gRPC {gateway.grpc_url}, REST {gateway.rest_url}/v1/models"] if gateway else []),
        "Ctrl-C stops it."
        if server.ready()
        else "Not all models are ready: /ready of the status port says no.",
    ]
    print("\n".join(lines), flush=True)


def models_served(server: TritonServer) -> list[str]:
    """Lines: each model with its state, why it failed or what it lacks."""
    lines = [f"Triton ({server.installation.kind}) serves {server.model_repository}"]
    if signed := [str(path) for path in server.verify_keys]:
        lines.append(f"  as signed by {' or '.join(signed)}")
    lines += [
        f"  held    {shown(name)} at version {', '.join(map(str, hold.versions))}, not {hold.against}: "
        f"{shown(hold.why)}"
        for name, hold in server.holds.items()
    ]
    unexported = unexported_models(server.served_repository)
    for model in (model for model in server.models() if model.ready or model.name not in unexported):
        if model.ready:
            lines.append(f"  ready   {shown(model.name)} version {model.version}")
        elif model.reason:
            reason = "\n".join(f"          {line}" for line in model.reason.split("\n") if line.strip())
            lines.append(
                f"  FAILED  {' '.join(filter(None, (shown(model.name), model.version)))}: {reason.lstrip()}"
            )
        else:
            lines.append(f"  not loaded {shown(model.name)}")
    lines += [f"  missing {name}: nothing to load; {advice_to_fill(name)}" for name in map(shown, unexported)]
    return lines


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Those before `--`; without a command they are those of `serve`."""
    options = argparse.ArgumentParser(add_help=False)
    _add_options(options)
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        usage=f"{COMMAND} [{SERVE}] [REPOSITORY] [options] [-- arguments of tritonserver]\n"
        f"       {COMMAND} {DOCTOR} [REPOSITORY] [options]\n"
        f"       {COMMAND} {TRACE} [ID] [options]\n"
        f"       {COMMAND} {KEYS} add|remove|list ...\n"
        f"       {COMMAND} {GATEWAY} status|scale|restart|render ...\n"
        f"       {COMMAND} {ROLLOUT} MODEL --version N [options]\n"
        f"       {COMMAND} {STATUS}|{STOP}|{RELOAD} [options]",
        description=DESCRIPTION,
        epilog=EPILOG,
        parents=[options],  # for --help
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"triton-vision-server {__version__}")
    commands = parser.add_subparsers(
        prog=COMMAND, dest="command", metavar="COMMAND", title="commands", required=True
    )
    for name, summary, description, epilog, add_arguments in (
        (SERVE, "the same: what a call without a command does", DESCRIPTION, EPILOG, add_serve_arguments),
        (DOCTOR, "what this machine can serve", doctor.DESCRIPTION, doctor.EPILOG, doctor.add_arguments),
        (
            TRACE,
            "where the time of one request went",
            tracing.DESCRIPTION,
            tracing.EPILOG,
            tracing.add_arguments,
        ),
        (
            KEYS,
            "who may ask through the gateway",
            keys_cli.DESCRIPTION,
            STATUSES,
            keys_cli.add_arguments,
        ),
        (
            STATUS,
            "launchers that run, and what they serve",
            control_cli.STATUS_DESCRIPTION,
            "exit status: 0 all is served, 1 not so, or none runs, 2 wrong usage",
            control_cli.add_status_arguments,
        ),
        (STOP, "one that runs", control_cli.STOP_DESCRIPTION, STATUSES, control_cli.add_stop_arguments),
        (
            RELOAD,
            "models of one that runs, as they are in its repository",
            control_cli.RELOAD_DESCRIPTION,
            STATUSES,
            control_cli.add_reload_arguments,
        ),
        (
            ROLLOUT,
            "a model's new version, tried beside the old one",
            rollout_cli.DESCRIPTION,
            rollout_cli.EPILOG,
            rollout_cli.add_arguments,
        ),
        (
            GATEWAY,
            "a running gateway, or one for containers",
            gateway_cli.GATEWAY_DESCRIPTION,
            STATUSES,
            gateway_cli.add_gateway_arguments,
        ),
    ):
        command = commands.add_parser(
            name,
            help=summary,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_arguments(command)
    named = argv and argv[0] in (*commands.choices, "-h", "--help", "--version")
    arguments = parser.parse_args(argv if named else [SERVE, *argv])
    if arguments.command == SERVE and arguments.status_port is None:
        arguments.status_port = STATUS_PORT if arguments.metrics_port else 0
    return arguments


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `serve`, with REPOSITORY."""
    add_repository(parser)
    _add_options(parser)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="IP address to listen on; 0.0.0.0, or :: of IPv6, lets other machines in (default: %(default)s)",
    )
    parser.add_argument(
        "--expose",
        action="store_true",
        help="let pip Triton, which gets no security fixes, listen where other machines reach it (in a "
        "container it may without this)",
    )
    for name, port in PORTS:
        parser.add_argument(
            f"--{name}-port",
            type=port_number,
            default=port,
            metavar="PORT",
            help="0 takes any free one and prints it (default: %(default)s)",
        )
    parser.add_argument(
        "--status-port",
        type=port_number,
        metavar="PORT",
        help="the launcher's own: is everything served (/ready), what was replaced (/metrics) "
        f"(default: {STATUS_PORT}, or any free one if the metrics port is)",
    )
    parser.add_argument(
        "--open",
        type=api_groups,
        default=(),
        metavar="GROUPS",
        help="APIs that anybody may call who reaches the ports, which are the launcher's alone otherwise: "
        f"{', '.join(CLOSED_GROUPS)}, with commas; on a loopback address shared-memory is open anyway",
    )
    parser.add_argument(
        "--verify-key",
        type=Path,
        action="append",
        default=[],
        metavar="PUBLIC.pem",
        help="load a model only if it is as the owner of this key signed it; may be given several times "
        "(default: any model is loaded)",
    )
    parser.add_argument(
        "--no-restart",
        action="store_true",
        help="replace nothing that dies: no model's process, nor tritonserver, whose end is the launcher's",
    )
    parser.add_argument(
        "--log-format",
        choices=(TEXT, JSON),
        default=TEXT,
        help="of standard error: json is an object per line, with the request's id where a line names one "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--trace",
        action="store_true",
        help="keep the traces of requests that carry a traceparent, in memory, the last thousand; "
        f"`{COMMAND} {TRACE} ID` shows one",
    )
    gateway_cli.add_options(parser.add_argument_group("gateway"))
    group = parser.add_argument_group("TensorFlow Serving's interfaces")
    group.add_argument(
        "--tfserving",
        action="store_true",
        help="answer its clients as well, over its gRPC and REST: a process beside tritonserver",
    )
    add_tfserving_options(group, TFSERVING_PREFIX)
    parser.add_argument("--log", type=Path, metavar="FILE", help="tritonserver's log (default: stderr)")
    parser.add_argument(
        "--start-timeout",
        type=seconds,
        default=START_TIMEOUT_S,
        metavar="SECONDS",
        help="for all models to load (default: %(default)g)",
    )
