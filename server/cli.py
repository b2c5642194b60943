"""`python -m server`: start Triton on a model repository and say what it serves."""

import argparse
import signal
import sys
from pathlib import Path

from . import doctor
from .errors import ServerError
from .process import START_TIMEOUT_S, TritonServer
from .repository import unexported_models

__all__ = ["main"]

DESCRIPTION = """\
Start Triton Inference Server on a model repository: the container's tritonserver where there is one, else
the one in the nvidia-pytriton wheel, which needs neither Docker nor a GPU. Ctrl-C or SIGTERM stops it after
the requests in flight are answered."""
EPILOG = """\
`python -m server doctor` says what this machine can serve, on a GPU or without, and what to mend.

Where there is no GPU, models that have a configs/cpu.pbtxt are served by it; MODEL_CONFIG_NAME chooses
another name, or none if it is empty (docs/serving.md).

Arguments after -- go to tritonserver as they are, and win over ours:
  python -m server -- --log-verbose=1 --model-control-mode=poll --repository-poll-secs=5

exit status: 0 stopped on request, 1 could not start, 2 wrong usage, else tritonserver's own"""


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["doctor"]:
        return doctor.main(argv[1:])
    split = argv.index("--") if "--" in argv else len(argv)
    arguments, passed_on = parse_arguments(argv[:split]), argv[split + 1 :]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to stop take the same path
    server = TritonServer(
        arguments.model_repository,
        address=arguments.address,
        http_port=arguments.http_port,
        grpc_port=arguments.grpc_port,
        metrics_port=arguments.metrics_port,
        arguments=passed_on,
        log=arguments.log,
        start_timeout_s=arguments.start_timeout,
    )
    try:
        with server:
            say_what_is_served(server)
            status = server.wait()
            print(f"tritonserver ended by itself with status {status}", file=sys.stderr)
            return status
    except KeyboardInterrupt:
        return 0
    except ServerError as error:
        print(f"server: {error}", file=sys.stderr)
        return 1


def say_what_is_served(server: TritonServer) -> None:
    lines = [f"Triton ({server.installation.kind}) serves {server.model_repository}"]
    for model in server.models():
        if model.ready:
            lines.append(f"  ready   {model.name} version {model.version}")
        elif model.reason:
            reason = "\n".join(f"          {line}" for line in model.reason.split("\n") if line.strip())
            lines.append(f"  FAILED  {model.name} {model.version}: {reason.lstrip()}")
        else:
            lines.append(f"  not loaded {model.name}")
    lines += [
        f"  missing {name}: nothing to load; run `python -m export {name}`"
        for name in unexported_models(server.model_repository)
    ]
    lines += [
        f"  HTTP    http://{server.http_url}",
        f"  gRPC    {server.grpc_url}",
        f"  metrics {server.metrics_url}",
        "Ctrl-C stops it." if server.ready() else "Not all models are ready, so /v2/health/ready says no.",
    ]
    print("\n".join(lines), flush=True)


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m server",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--model-repository", type=Path, default=Path("model_repository"), help="default: %(default)s"
    )
    parser.add_argument(
        "--address",
        default="127.0.0.1",
        help="IP address to listen on; 0.0.0.0 lets other machines in (default: %(default)s)",
    )
    for name, port in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(
            f"--{name}-port",
            type=port_number,
            default=port,
            metavar="PORT",
            help="0 takes any free one and prints it (default: %(default)s)",
        )
    parser.add_argument("--log", type=Path, metavar="FILE", help="tritonserver's log (default: stderr)")
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=START_TIMEOUT_S,
        metavar="SECONDS",
        help="for all models to load (default: %(default)g)",
    )
    return parser.parse_args(argv)


def port_number(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port; choose 1 to 65535, or 0 for any free one")
    return port
