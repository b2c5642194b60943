"""Public keys that signatures of models are held against.

Only `cryptography` is needed: the library that signs, `model-signing`, brings twenty packages, most of them
to reach sigstore over the network, and does not check a model's name or its folders (docs/decisions/0053).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InstallationError, KeyFileError
from ..place import INSTALLED

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

__all__ = ["CURVES", "PublicKey", "read_keys"]

LARGEST_KEY_BYTES = 64 * 2**10
# And the hash that goes with each.
CURVES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
MAKE_ONE = (
    "`openssl ecparam -name prime256v1 -genkey -noout` makes a private key, "
    "and `openssl ec -pubout` the public one of it"
)
INSTALL_IT = "pip install 'triton-vision-server[verify]'" if INSTALLED else "make setup"


@dataclass(frozen=True)
class PublicKey:
    """A public key of an elliptic curve, read from the file `path`.

    hint: sha256 of its PEM text, in hex: by this a signature says whose it is.
    """

    path: Path
    hint: str
    _key: "EllipticCurvePublicKey"

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Whether `signature` (ECDSA, in DER) is this key's of the bytes `signed`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

        try:
            self._key.verify(signature, signed, ECDSA(getattr(hashes, CURVES[self._key.curve.name])()))
        except InvalidSignature:
            return False
        return True


def read_keys(paths: Iterable[Path], repository: Path | None = None) -> tuple[PublicKey, ...]:
    """Read PEM files, one public key each.

    Raises `KeyFileError` for a file that holds none of a curve in `CURVES`, or that lies in the model
    `repository`, where whoever alters models could put a key of theirs; `InstallationError` where the
    package `cryptography` is missing.
    """
    try:
        import cryptography.hazmat.primitives.asymmetric.ec  # noqa: F401  # is it there?
    except ImportError:
        raise InstallationError(
            f"--verify-key needs the package cryptography, which is not installed; run {INSTALL_IT}"
        ) from None
    keys = tuple(_read_key(Path(path)) for path in paths)
    for key in keys:
        if repository and repository.resolve() in key.path.resolve().parents:
            raise KeyFileError(
                f"the key {key.path} lies in the model repository, where whoever alters models could replace "
                "it; keep it elsewhere"
            )
    return keys


def _read_key(path: Path) -> PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_KEY_BYTES)
    except OSError as error:
        raise KeyFileError(f"the key {path} cannot be read: {error.strerror}") from None
    if b"PRIVATE KEY" in text:
        raise KeyFileError(
            f"{path} is a private key, which belongs to who signs: give the public one "
            f"(`openssl ec -in {path} -pubout`), and keep this one off the server"
        )
    if text.count(b"-----BEGIN") > 1:
        raise KeyFileError(f"{path} holds several keys: make a file of each, and give each")
    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{path} is no public key in PEM; {MAKE_ONE}") from None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise KeyFileError(f"{path} is no key of the curves {', '.join(CURVES)}; {MAKE_ONE}")
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(path, hashlib.sha256(pem).hexdigest(), key)
