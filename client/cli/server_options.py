"""The options that say where the server is and how it is asked, and the client that they make."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..clients.blocking import VisionClient
from ..common import defaults
from ..common.tracing import Tracer
from ..errors import InvalidInput
from ..transport.address import KEY_VARIABLE, PROTOCOLS, URL_VARIABLE

__all__ = ["add_server_options", "client_of", "client_options"]


def add_server_options(command: argparse.ArgumentParser) -> None:
    """In a group of their own."""
    server = command.add_argument_group("server")
    ports = ", ".join(f"{port} for {name}" for name, port in defaults.PORTS.items())
    server.add_argument(
        "--url",
        help="HOST:PORT, or with grpc://, grpcs://, http://, https:// in front "
        f"(default: ${URL_VARIABLE}, else {defaults.HOST} at {ports})",
    )
    server.add_argument("--protocol", choices=PROTOCOLS, help=f"default: {defaults.PROTOCOL}")
    server.add_argument(
        "--timeout",
        type=float,
        default=defaults.TIMEOUT_S,
        metavar="S",
        help="seconds per image or question (default: %(default)g)",
    )
    server.add_argument(
        "--retries",
        type=int,
        default=defaults.RETRIES,
        metavar="N",
        help="default: %(default)s; 0: never try again",
    )
    server.add_argument(
        "--patience",
        type=float,
        default=defaults.COMMAND_PATIENCE_S,
        metavar="S",
        help="seconds to wait for a server that answered before and restarts (default: %(default)g)",
    )
    server.add_argument(
        "--header", action="append", default=[], metavar="'NAME: VALUE'", help="sent along; may be repeated"
    )
    server.add_argument(
        "--trace",
        action="store_true",
        help="record where the time of each question goes, and send it to --trace-url",
    )
    server.add_argument(
        "--trace-url",
        default=defaults.TRACES_URL,
        metavar="URL",
        help="the status port of a server that was started with --trace, or a collector of OTLP over HTTP "
        "(default: %(default)s)",
    )
    server.add_argument(
        "--api-key-file",
        metavar="FILE",
        help=f"holds the key for a gateway (default: ${KEY_VARIABLE}, if set)",
    )
    server.add_argument("--ssl", action="store_true", help="use TLS")
    server.add_argument("--root-certificates", metavar="PEM", help="who may have signed the server's")
    server.add_argument("--certificate-chain", metavar="PEM", help="the client's own, for mutual TLS")
    server.add_argument("--private-key", metavar="PEM", help="of the client's own certificate")


def client_of(options: argparse.Namespace) -> VisionClient:
    """Raises InvalidInput for options that cannot be."""
    return VisionClient(**client_options(options))


def client_options(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of either client. Raises InvalidInput for a header or a file of a key that is none."""
    return {
        "url": options.url,
        "protocol": options.protocol,
        "timeout_s": options.timeout,
        "retries": options.retries,
        "patience_s": options.patience,
        "concurrency": getattr(options, "concurrency", 1),
        "headers": dict(_header(text) for text in options.header),
        "api_key": _key_of(options.api_key_file),
        "ssl": options.ssl,
        "root_certificates": options.root_certificates,
        "private_key": options.private_key,
        "certificate_chain": options.certificate_chain,
        "shared_memory": getattr(options, "shared_memory", False),
        "allow_urls": getattr(options, "allow_urls", False),
        "trace": Tracer(options.trace_url) if options.trace else None,
    }


def _key_of(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        key = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the API key in '{file}' cannot be read: {error}.") from error
    if not key:
        raise InvalidInput(f"'{file}' holds no API key.")
    return key


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name.strip() and colon):
        raise InvalidInput(f"header '{text}' is not of the form 'Name: value'.")
    return name.strip(), value.strip()
