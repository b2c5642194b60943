"""Tenants and their keys: a file of hashes for people, and the maps of it that HAProxy looks keys up in.

    # tenant  credential              limits                       role
    alice     sha256:0B7F...          rate=50 concurrency=16
    ops       sha256:91AC...          rate=20 concurrency=4        admin
    bob       jwt                     rate=10 concurrency=4

A tenant may have several lines, one for each key, as while a key is replaced; their limits are the same.
`jwt` lets in whoever has a token that names the tenant.

A key is 256 random bits, so its plain SHA-256 tells nothing of it: slow hashes are for passwords, which can
be guessed. HAProxy looks the hash up in a tree, so the time of a comparison says nothing of a key either.
"""

import contextlib
import hashlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...environment.place import COMMAND
from ...errors import ServerError

__all__ = [
    "KEYS_FILE",
    "KEYS_MAP",
    "TENANTS_MAP",
    "Grant",
    "KeysError",
    "add",
    "maps",
    "new_key",
    "parse",
    "read",
    "remove",
    "write",
]

KEYS_FILE = Path("gateway-keys.txt")
KEYS_MAP, TENANTS_MAP = "keys.map", "tenants.map"
HEADER = "# Who may ask. Written by `{command} keys`; a running gateway takes changes up by itself.\n"
PREFIX = "tvk_"
KEY_BYTES = 32
JWT = "jwt"
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
CREDENTIAL = re.compile(rf"{JWT}|sha256:([0-9A-Fa-f]{{64}})")
LIMIT = re.compile(r"(rate|concurrency)=([1-9][0-9]{0,5})")
ADMIN = "admin"


class KeysError(ServerError):
    """The file of keys cannot be read, or says what it cannot mean."""


@dataclass(frozen=True)
class Grant:
    """One line: who may ask, with what, and how much.

    digest: SHA-256 of the key, 64 upper-case hexadecimal digits; "" for tenants with tokens (JWT).
    rate: requests per second. concurrency: requests at a time. Both are for all keys of a tenant together.
    """

    tenant: str
    digest: str = ""
    rate: int = 50
    concurrency: int = 16
    admin: bool = False

    def line(self) -> str:
        """As it stands in the file."""
        credential = f"sha256:{self.digest}" if self.digest else JWT
        limits = f"rate={self.rate} concurrency={self.concurrency}"
        return f"{self.tenant}  {credential}  {limits}{'  admin' if self.admin else ''}"


def new_key() -> tuple[str, str]:
    """A key, which is shown once, and its digest, which is kept."""
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return key, hashlib.sha256(key.encode()).hexdigest().upper()


def parse(text: str, name: str = "the file of keys") -> list[Grant]:
    """The lines that grant something. Raises `KeysError` for the first that is wrong, with its number."""
    grants: list[Grant] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not (words := line.partition("#")[0].split()):
            continue
        try:
            grant = _grant(words)
            _agree(grant, grants)
        except ValueError as error:
            raise KeysError(f"{name}, line {number}: {error}") from None
        grants.append(grant)
    return grants


def _grant(words: Sequence[str]) -> Grant:
    tenant, *rest = words
    _check_tenant(tenant)
    credential = CREDENTIAL.fullmatch(rest[0]) if rest else None
    if not credential:
        said = f"not {rest[0]!r}" if rest and len(rest[0]) < len("sha256:") else "a hash or `jwt`"
        raise ValueError(f"after the tenant comes sha256: and 64 hexadecimal digits, or `jwt`; it is {said}")
    grant = Grant(tenant, (credential[1] or "").upper())
    for word in rest[1:]:
        if word == ADMIN:
            grant = replace(grant, admin=True)
        elif limit := LIMIT.fullmatch(word):
            number = int(limit[2])
            grant = replace(grant, rate=number) if limit[1] == "rate" else replace(grant, concurrency=number)
        else:
            raise ValueError(f"{word!r} is none of rate=NUMBER, concurrency=NUMBER (1 to 999999), admin")
    return grant


def _check_tenant(tenant: str) -> None:
    if not TENANT.fullmatch(tenant):
        raise ValueError(f"{tenant!r} is no tenant; use up to 64 of A-Z a-z 0-9 _ . @ -")


def _agree(grant: Grant, others: Iterable[Grant]) -> None:
    for other in others:
        if grant.digest and other.digest == grant.digest:
            raise ValueError(f"the key is that of {other.tenant} in a line above")
        if other.tenant == grant.tenant and replace(other, digest="") != replace(grant, digest=""):
            raise ValueError(f"another line of {grant.tenant} gives other limits, or another role")


def read(path: Path) -> list[Grant]:
    """Of the file. Raises `KeysError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KeysError(f"there is no file of keys {path}; `{COMMAND} keys add TENANT` makes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"the file of keys {path} cannot be read: {error}") from None
    return parse(text, str(path))


def write(path: Path, text: str) -> None:
    """Replace the file, in one step. Raises `KeysError`.

    Its owner, group and mode stay, as a gateway may run as another user; a new one only its owner may read.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                with contextlib.suppress(FileNotFoundError):
                    _keep_owner(descriptor, path.stat())
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise KeysError(f"{path} cannot be written: {error.strerror or error}") from None


def _keep_owner(descriptor: int, before: os.stat_result) -> None:
    try:
        os.fchown(descriptor, before.st_uid, before.st_gid)
    except PermissionError:
        raise OSError(None, "its owner and group cannot be kept; write it as root") from None
    os.fchmod(descriptor, stat.S_IMODE(before.st_mode))


def add(text: str, grant: Grant) -> str:
    """The file's text with one line more. Raises `KeysError` where it does not fit the others."""
    try:
        _check_tenant(grant.tenant)
    except ValueError as error:
        raise KeysError(str(error)) from None
    text = text or HEADER.format(command=COMMAND)
    text = f"{text}{'' if text.endswith(chr(10)) else chr(10)}{grant.line()}\n"
    parse(text)
    return text


def remove(text: str, tenant: str, digest: str = "") -> str:
    """The text without the tenant's lines, or without those whose digest begins with `digest`.

    Raises `KeysError` if there is none.
    """
    kept, removed = [], 0
    for line in text.splitlines(keepends=True):
        words = line.partition("#")[0].split()
        grant = _grant(words) if words else None
        if grant and grant.tenant == tenant and grant.digest.startswith(digest.upper()):
            removed += 1
        else:
            kept.append(line)
    if not removed:
        raise KeysError(f"no line of {tenant}{f' with a key {digest}...' if digest else ''}")
    return "".join(kept)


def maps(grants: Iterable[Grant]) -> dict[str, dict[str, str]]:
    """What HAProxy looks up, by the map's name: a key's digest -> tenant, a tenant -> limits and role."""
    grants = list(grants)
    tokens = {grant.tenant for grant in grants if not grant.digest}
    return {
        KEYS_MAP: {grant.digest: grant.tenant for grant in grants if grant.digest},
        TENANTS_MAP: {
            grant.tenant: "|".join(
                (
                    str(grant.rate),
                    str(grant.concurrency),
                    ADMIN if grant.admin else "user",
                    JWT if grant.tenant in tokens else "key",
                )
            )
            for grant in grants
        },
    }
