"""The command `keys`: who may ask through a gateway."""

import argparse
import json
import sys
from pathlib import Path

from ...arguments import add_command
from ...errors import ServerError
from .keys import KEYS_FILE, Grant, add, new_key, parse, read, remove, write

__all__ = ["DESCRIPTION", "add_arguments", "run"]

DESCRIPTION = """\
Who may ask through the gateway. A key is shown once, when it is made; the file keeps its hash. A running
gateway takes a change up within a second, and loses no connection over it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `keys`."""
    commands = parser.add_subparsers(dest="keys_command", metavar="COMMAND", title="commands", required=True)
    adding = add_command(commands, "add", "let somebody in, and print the key")
    adding.add_argument("tenant", metavar="TENANT", help="whose key it is")
    adding.add_argument("--rate", type=int, metavar="N", help=f"requests per second (default: {Grant.rate})")
    adding.add_argument(
        "--concurrency", type=int, metavar="N", help=f"requests at a time (default: {Grant.concurrency})"
    )
    adding.add_argument("--admin", action="store_true", default=None, help="may ask what only admins may")
    adding.add_argument(
        "--jwt", action="store_true", help="by a token whose `sub` is TENANT; there is no key"
    )
    removing = add_command(commands, "remove", "let somebody in no longer")
    removing.add_argument("tenant", metavar="TENANT", help="whose keys these are")
    removing.add_argument(
        "--hash", default="", metavar="BEGINNING", help="that key alone; `keys list` shows hashes"
    )
    listing = add_command(commands, "list", "tell who may ask, and how much")
    for command in (adding, removing, listing):
        command.add_argument(
            "--gateway-keys", type=Path, default=KEYS_FILE, metavar="FILE", help="default: %(default)s"
        )
        command.add_argument("--json", action="store_true", help="for scripts")


def run(arguments: argparse.Namespace) -> int:
    """Returns the exit code."""
    try:
        told = {"add": _add, "remove": _remove, "list": _list}[arguments.keys_command](arguments)
    except ServerError as error:
        print(f"server: {error}", file=sys.stderr)
        return 1
    if told:
        print(told)
    return 0


def _add(arguments: argparse.Namespace) -> str:
    path: Path = arguments.gateway_keys
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    key, digest = ("", "") if arguments.jwt else new_key()
    known = next((grant for grant in parse(text, str(path)) if grant.tenant == arguments.tenant), None)
    like = known or Grant(arguments.tenant)
    grant = Grant(
        arguments.tenant,
        digest,
        rate=arguments.rate if arguments.rate is not None else like.rate,
        concurrency=arguments.concurrency if arguments.concurrency is not None else like.concurrency,
        admin=like.admin if arguments.admin is None else arguments.admin,
    )
    write(path, add(text, grant))
    if arguments.json:
        return json.dumps({"tenant": grant.tenant, "key": key, "hash": digest})
    if arguments.jwt:
        return f"{grant.tenant} may ask with a token, {grant.rate} requests/s, {grant.concurrency} at a time"
    print(
        f"{grant.tenant}: {grant.rate} requests/s, {grant.concurrency} at a time. The key, shown this once:",
        file=sys.stderr,
    )
    return key


def _remove(arguments: argparse.Namespace) -> str:
    path: Path = arguments.gateway_keys
    read(path)
    write(path, remove(path.read_text(encoding="utf-8"), arguments.tenant, arguments.hash))
    return ""


def _list(arguments: argparse.Namespace) -> str:
    grants = read(arguments.gateway_keys)
    if arguments.json:
        return "\n".join(json.dumps(vars(grant)) for grant in grants)
    return "\n".join(
        f"{grant.tenant:20} {grant.digest[:12] or 'jwt':12}  {grant.rate} requests/s, "
        f"{grant.concurrency} at a time{', admin' if grant.admin else ''}"
        for grant in grants
    )
