"""The gateway alone, beside a Triton that runs already: `python -m server.tfserving`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from .._version import __version__
from ..environment.output import until_closed
from ..environment.place import COMMAND
from ..errors import ServerError
from .options import add_options, parse_label, remedy

__all__ = ["main"]

DESCRIPTION = """\
Speak TensorFlow Serving's interfaces, gRPC and REST, to a Triton that runs already. Models, versions and
tensors are Triton's; clients of TensorFlow Serving need no change. Ctrl-C or SIGTERM stops it after the
requests under way are answered."""
EPILOG = f"""\
`{COMMAND} --tfserving` starts both.

exit status: 0 stopped on request, 1 could not start, 2 wrong usage"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return until_closed(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--url",
        default="localhost:8000",
        type=_host_and_port,
        metavar="HOST:PORT",
        help="of Triton's HTTP (default: %(default)s)",
    )
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="IP address to listen on; 0.0.0.0, or :: of IPv6, lets other machines in (default: %(default)s)",
    )
    add_options(parser)
    parser.add_argument("--version", action="version", version=f"triton-vision-server {__version__}")
    parser.add_argument("--json", action="store_true", help="print the addresses as a line of JSON")
    parser.add_argument("--control-fd", type=int, help=argparse.SUPPRESS)  # a pipe at whose end it stops
    parser.add_argument("--beat-fd", type=int, help=argparse.SUPPRESS)  # a pipe that hears that it lives
    arguments = parser.parse_args(argv)
    # It runs programs, and no copies of itself, and gRPC would say of each that it looked after no fork.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    try:
        import uvloop

        from .labels import LabelError
        from .serving import GatewayServer
    except ImportError as error:
        print(f"tfserving: {error}; {remedy()}", file=sys.stderr)
        return 1
    gateway = GatewayServer(
        arguments.url,
        arguments.address,
        arguments.grpc_port,
        arguments.rest_port,
        arguments.model_config,
        dict(map(parse_label, arguments.version_label)),
        arguments.max_mib * 2**20,
    )

    def started(over_grpc: str, rest: str) -> None:
        if arguments.json:
            print(json.dumps({"grpc": over_grpc, "rest": f"http://{rest}"}), flush=True)
        else:
            told = f"TensorFlow Serving's interfaces to Triton at {arguments.url}"
            print(
                f"{told}\n  gRPC    {over_grpc}\n  REST    http://{rest}/v1/models\nCtrl-C stops it.",
                flush=True,
            )

    try:
        uvloop.run(gateway.serve(started, arguments.control_fd, arguments.beat_fd))
    except (ServerError, LabelError) as error:
        print(f"tfserving: {error}", file=sys.stderr)
        return 1
    return 0


def _host_and_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no HOST:PORT; write localhost:8000, for instance")
    return text
