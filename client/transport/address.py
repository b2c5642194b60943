"""Where the server is and how to speak to it."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..common.defaults import HOST, PORTS, PROTOCOL
from ..common.identity import log
from ..errors import InvalidInput

__all__ = ["KEY_VARIABLE", "PROTOCOLS", "URL_VARIABLE", "Address", "Tls"]

PROTOCOLS = tuple(PORTS)
URL_VARIABLE, KEY_VARIABLE = "TRITON_VISION_URL", "TRITON_VISION_API_KEY"
KEY_HEADER = "x-api-key"
_LOOPBACK = ("localhost:", "127.", "[::1]:")
_SCHEMES = {
    "grpc": ("grpc", False),
    "grpcs": ("grpc", True),
    "http": ("http", False),
    "https": ("http", True),
}


@dataclass(frozen=True)
class Tls:
    """PEM files. Without `root_certificates` the system's are used; the other two are for mutual TLS."""

    root_certificates: str | None = None
    private_key: str | None = None
    certificate_chain: str | None = None

    def context(self) -> ssl.SSLContext:
        """For HTTPS. Raises InvalidInput for files that cannot be read or used, or do not match."""
        context = _trusting(self.root_certificates)
        if self.certificate_chain:
            _trusting(self.certificate_chain)  # so that what follows is due to the key
            try:
                # gRPC takes no passphrase, and OpenSSL would ask for it on the terminal.
                context.load_cert_chain(self.certificate_chain, self.private_key, password="")
            except OSError as error:
                raise InvalidInput(self._fault_of_the_key(error)) from error
        return context

    def _fault_of_the_key(self, error: OSError) -> str:
        if not isinstance(error, ssl.SSLError):
            return f"the private key '{self.private_key}' cannot be read: {error.strerror}."
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"the private key '{self.private_key}' does not belong to '{self.certificate_chain}'."
        if error.reason:
            return f"'{self.certificate_chain}' and '{self.private_key}' cannot be used: {error.reason}."
        return f"'{self.private_key}' holds no private key as PEM without a passphrase; give one that does."


@dataclass(frozen=True)
class Address:
    """`target` is "host:port", or "host:port/path" behind an HTTP gateway."""

    protocol: str
    target: str
    tls: Tls | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # keys are among them

    @property
    def url(self) -> str:
        """The protocol, with an s where TLS is spoken, and `target`: "grpcs://host:8001"."""
        return f"{self.protocol}{'s' if self.tls else ''}://{self.target}"

    @classmethod
    def parse(
        cls,
        url: str | None = None,
        protocol: str | None = None,
        *,
        use_tls: bool = False,
        root_certificates: str | None = None,
        private_key: str | None = None,
        certificate_chain: str | None = None,
        headers: Mapping[str, str] | None = None,
        api_key: str | None = None,
    ) -> Address:
        """From "host", "host:port" or "scheme://host:port" with scheme grpc, grpcs, http or https.

        Without `url`: $TRITON_VISION_URL, else localhost at the protocol's usual port. Without `api_key`:
        $TRITON_VISION_API_KEY, if there is one. Raises InvalidInput.
        """
        url = url or os.environ.get(URL_VARIABLE) or HOST
        scheme, separator, target = url.rpartition("://")
        if separator and scheme not in _SCHEMES:
            raise InvalidInput(f"'{url}' begins with {scheme}://; choose one of {', '.join(_SCHEMES)}.")
        from_scheme, scheme_has_tls = _SCHEMES.get(scheme, (None, False))
        if protocol not in (None, *PROTOCOLS):
            raise InvalidInput(f"protocol '{protocol}' is unknown; choose one of {', '.join(PROTOCOLS)}.")
        if protocol and from_scheme and protocol != from_scheme:
            raise InvalidInput(f"'{url}' is {from_scheme}, but protocol is '{protocol}'. Drop one.")
        protocol = protocol or from_scheme or PROTOCOL
        if not target.strip("/"):
            raise InvalidInput(f"'{url}' has no host; write it as host:port.")
        if bool(private_key) != bool(certificate_chain):
            raise InvalidInput("mutual TLS needs both the private key and the certificate chain.")
        files = [path for path in (root_certificates, private_key, certificate_chain) if path]
        for path in files:
            if not os.path.isfile(path):
                raise InvalidInput(f"no certificate or key file '{path}'.")
        has_tls = use_tls or scheme_has_tls or bool(files)
        tls = Tls(root_certificates, private_key, certificate_chain) if has_tls else None
        if tls and files:
            tls.context()  # gRPC would say no more than that nothing answers
        target = _with_port(target.rstrip("/"), PORTS[protocol])
        sent = dict(headers or {})
        if key := os.environ.get(KEY_VARIABLE) if api_key is None else api_key:
            sent[KEY_HEADER] = _checked_key(key)
            if not (tls or target.startswith(_LOOPBACK)):
                log.warning("the API key goes to %s in plain text: use TLS (grpcs://, https://)", target)
        return cls(protocol, target, tls, sent)


def _checked_key(key: str) -> str:
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidInput("the API key has characters that no key has; is it the key itself, on one line?")
    return key


def _trusting(path: str | None) -> ssl.SSLContext:
    """Trusts whom the file trusts, None: whom the system does. Raises InvalidInput."""
    try:
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise InvalidInput(f"'{path}' holds no certificate as PEM, or a damaged one.") from error
    except OSError as error:
        raise InvalidInput(f"the certificates '{path}' cannot be read: {error.strerror}.") from error


def _with_port(target: str, port: int) -> str:
    host, slash, path = target.partition("/")
    if host.count(":") > 1 and "]" not in host:  # ::1, as it is given to a server's --address
        host = f"[{host}]"
    has_port = ":" in host.rpartition("]")[2]  # [::1] is a host whose colons are no port
    return f"{host}{'' if has_port else f':{port}'}{slash}{path}"
