"""The command line: `serve`, which is what a call without a command does, and the commands beside it."""

import argparse
import sys
from collections.abc import Sequence

from ._version import __version__
from .arguments import STATUSES
from .environment.output import until_closed
from .environment.place import COMMAND
from .operations.control import cli as control_cli
from .operations.doctor import cli as doctor
from .operations.gateway import cli as gateway_cli
from .operations.gateway import keys_cli
from .operations.rollout import cli as rollout_cli
from .operations.serving import cli as serve
from .operations.tracing import cli as tracing

__all__ = ["main", "parse_arguments"]

SERVE, DOCTOR, TRACE, KEYS, GATEWAY, ROLLOUT = "serve", "doctor", "trace", "keys", "gateway", "rollout"
STATUS, STOP, RELOAD = "status", "stop", "reload"
INTERRUPTED = 130  # as shells have it: 128 and SIGINT


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
        try:
            return run(arguments)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
    return serve.run(arguments, passed_on)


def parse_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Those before `--`; without a command they are those of `serve`."""
    options = argparse.ArgumentParser(add_help=False)
    serve.add_options(options)
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        usage=f"{COMMAND} [{SERVE}] [REPOSITORY] [options] [-- arguments of tritonserver]\n"
        f"       {COMMAND} {DOCTOR} [REPOSITORY] [options]\n"
        f"       {COMMAND} {TRACE} [ID] [options]\n"
        f"       {COMMAND} {KEYS} add|remove|list ...\n"
        f"       {COMMAND} {GATEWAY} status|scale|restart|render ...\n"
        f"       {COMMAND} {ROLLOUT} MODEL --version N [options]\n"
        f"       {COMMAND} {STATUS}|{STOP}|{RELOAD} [options]",
        description=serve.DESCRIPTION,
        epilog=serve.EPILOG,
        parents=[options],  # for --help
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"triton-vision-server {__version__}")
    commands = parser.add_subparsers(
        prog=COMMAND, dest="command", metavar="COMMAND", title="commands", required=True
    )
    for name, summary, description, epilog, add_arguments in (
        (
            SERVE,
            "the same: what a call without a command does",
            serve.DESCRIPTION,
            serve.EPILOG,
            serve.add_arguments,
        ),
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
    if arguments.command == SERVE:
        serve.complete(arguments)
    return arguments
