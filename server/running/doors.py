"""Which of tritonserver's APIs anybody may call, and the key to those that only the launcher may.

tritonserver restricts a group of APIs to requests that carry a header. What lets a client read or write this
machine's memory and files, or load models, which is to run code, gets a key that is made at each start and
known to the launcher alone.
"""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from ..environment.ports import is_loopback

__all__ = ["CLOSED_GROUPS", "Doors", "close_doors", "option_values", "way_round_signatures"]

CONTROL = "model-repository"  # load, unload, index
SHARED_MEMORY = "shared-memory"
CLOSED_GROUPS = (CONTROL, SHARED_MEMORY, "trace", "logging")
HEADER = "triton-vision-key"
GRPC_PREFIX = "triton-grpc-protocol-"  # tritonserver puts it before the names of headers
HTTP_OPTION, GRPC_OPTION = "--http-restricted-api", "--grpc-restricted-protocol"
MODE_OPTION, LOAD_OPTION = "--model-control-mode", "--load-model"
REPOSITORY_OPTIONS = ("--model-repository", "--model-store")
CLOUD_OPTIONS = ("--allow-sagemaker", "--allow-vertex-ai")  # their APIs load models, whatever is restricted
VERTEX_VARIABLE = ("AIP_MODE", "PREDICTION")  # it switches the latter on, too


@dataclass(frozen=True)
class Doors:
    """What is closed, and how the launcher gets in.

    secret_arguments: tritonserver's, which hold the key. headers: of the launcher's own HTTP requests;
        metadata: of its gRPC requests.
    mode: "ours" (only the launcher loads and unloads) or what the user chose as --model-control-mode.
    """

    secret_arguments: tuple[str, ...]
    headers: dict[str, str]
    metadata: dict[str, str]
    mode: str

    @property
    def can_load(self) -> bool:
        """Whether the launcher can unload a model and load it again."""
        return self.mode in ("ours", "explicit")


def close_doors(address: str, opened: Sequence[str], user_arguments: Sequence[str]) -> Doors:
    """The doors of a server that listens on `address`; `opened` are groups that stay open.

    On a loopback address shared memory is open. Who chooses the model control mode also decides who may
    control, and what the user restricts has the user's own key.
    """
    modes = option_values(user_arguments, MODE_OPTION)
    chosen = bool(modes or option_values(user_arguments, LOAD_OPTION))
    closed = set(CLOSED_GROUPS) - set(opened)
    if is_loopback(address):
        closed.discard(SHARED_MEMORY)
    if chosen:
        closed.discard(CONTROL)
    key, arguments = secrets.token_hex(16), []
    names: dict[str, dict[str, str]] = {HTTP_OPTION: {}, GRPC_OPTION: {}}
    for option in (HTTP_OPTION, GRPC_OPTION):
        ours = set(closed)
        for value in option_values(user_arguments, option):
            groups, _, header = value.partition(":")
            ours -= set(groups.split(","))
            name, _, secret = header.partition("=")
            names[option][name] = secret
        if ours:
            arguments.append(f"{option}={','.join(sorted(ours))}:{HEADER}={key}")
    mode = (modes or ["none"])[-1] if chosen else "ours"
    metadata = {f"{GRPC_PREFIX}{name}".lower(): secret for name, secret in names[GRPC_OPTION].items()}
    metadata[f"{GRPC_PREFIX}{HEADER}"] = key
    return Doors(tuple(arguments), {**names[HTTP_OPTION], HEADER: key}, metadata, mode)


def way_round_signatures(opened: Sequence[str], user_arguments: Sequence[str]) -> str:
    """What of these would let somebody load what was not verified, and why; "" if nothing would.

    A load request can carry a configuration and files of its own, so none but the launcher's may be taken.
    """
    if CONTROL in opened:
        return f"--open {CONTROL} lets others load models, with files of their own"
    modes = option_values(user_arguments, MODE_OPTION)
    if option_values(user_arguments, LOAD_OPTION) or not {*modes} <= {"none", "poll"}:
        return f"{MODE_OPTION}=explicit and {LOAD_OPTION} let others load models, with files of their own"
    for option in (HTTP_OPTION, GRPC_OPTION):
        if any(CONTROL in value for value in option_values(user_arguments, option)):
            return f"{option} with a key of yours lets others load models, with files of their own"
    for option in REPOSITORY_OPTIONS:
        if option_values(user_arguments, option):
            return f"{option} after -- would serve models that nobody verified"
    for option in CLOUD_OPTIONS:
        if {*option_values(user_arguments, option)} - {"false", "0"}:
            return f"{option} opens a port that lets others load models, without a key"
    variable, value = VERTEX_VARIABLE
    if os.environ.get(variable) == value and not option_values(user_arguments, CLOUD_OPTIONS[1]):
        return f"{variable}={value} has Triton open a port that lets others load models, without a key"
    return ""


def option_values(arguments: Sequence[str], option: str) -> list[str]:
    """What `arguments` give for `option`, as one word (--name=value) or two, the name whole or shortened."""
    values = []
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if len(name) > len("--") and option.startswith(name):
            values.append(value if equals else "".join(arguments[position + 1 : position + 2]))
    return values
