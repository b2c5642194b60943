"""The command `serve`, which is what a call without a command does: its options."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ...arguments import add_repository, add_verify_key, api_groups, port_number, seconds
from ...environment.output import patient_output
from ...environment.place import COMMAND
from ...running.doors import CLOSED_GROUPS
from ...running.json_log import standard_error_in_json
from ...running.process import START_TIMEOUT_S
from ...tfserving.options import add_options as add_tfserving_options
from ...watching.supervisor import MOST_RESTARTS, WINDOW_S
from ..gateway import cli as gateway_cli
from .serving import TFSERVING_PREFIX, serve

__all__ = ["DESCRIPTION", "EPILOG", "add_arguments", "add_options", "complete", "run"]

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
TEXT, JSON = "text", "json"
PORTS = (("http", 8000), ("grpc", 8001), ("metrics", 8002))
STATUS_PORT = 8003


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `serve`, with REPOSITORY."""
    add_repository(parser)
    add_options(parser)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of `serve` but for REPOSITORY."""
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
    add_verify_key(
        parser,
        "load a model only if it is as the owner of this key signed it; may be given several times "
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
        f"`{COMMAND} trace ID` shows one",
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


def complete(arguments: argparse.Namespace) -> None:
    """Set what one option leaves to another: `status_port`."""
    if arguments.status_port is None:
        arguments.status_port = STATUS_PORT if arguments.metrics_port else 0


def run(arguments: argparse.Namespace, passed_on: Sequence[str]) -> int:
    """Serve until the end; `passed_on` goes to tritonserver as it is. Returns the exit code."""
    in_json = arguments.log_format == JSON
    if in_json and arguments.log:
        print("server: --log-format json is of standard error; leave --log out", file=sys.stderr)
        return 2
    with patient_output(), standard_error_in_json() if in_json else contextlib.nullcontext():
        try:
            return serve(arguments, passed_on)
        except KeyboardInterrupt:  # before anything was started
            return 0
