"""What a signature says: the files of a model's folder, each with its sha256, and the model's name.

The format is that of OpenSSF Model Signing 1.0, as the library `model-signing` writes it with a key: a
Sigstore bundle of a DSSE envelope around an in-toto statement. Nothing in the file is believed before the
signature is verified; what is then read was vouched for, and is checked for its form alone. The library also
takes formats that are older than its 1.0, and lets a signature name paths to leave out; we do neither.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import SignatureError
from .keys import PublicKey

__all__ = ["LARGEST_SIGNATURE_BYTES", "SIGNATURE_FILE", "Manifest", "read_signature"]

SIGNATURE_FILE = "model.sig"  # in the model's folder, beside config.pbtxt; the one file that is not signed
LARGEST_SIGNATURE_BYTES = 16 * 2**20  # of some 60,000 files
MOST_PARTS = 1000  # of what nobody vouches for yet: five million empty objects take 400 MB
PAYLOAD_TYPE = b"application/vnd.in-toto+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"


@dataclass(frozen=True)
class Manifest:
    """What was signed: the model's name, and by the path of each file in its folder the sha256, in hex."""

    model: str
    files: Mapping[str, str]


def read_signature(content: bytes, keys: Sequence[PublicKey]) -> Manifest:
    """What a signature by one of `keys` vouches for; `SignatureError` for any other, and for what is none."""
    try:
        if content.count(b",") > MOST_PARTS:
            raise ValueError
        bundle = json.loads(content)
        envelope = bundle["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        payload_type = str(envelope["payloadType"]).encode()
        payload, signature = (_decoded(text) for text in (envelope["payload"], signature["sig"]))
        hint = str(bundle["verificationMaterial"].get("publicKey", {}).get("hint", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SignatureError(SIGNATURE_FILE, "is no signature of a model by a key") from None
    signed = b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type, len(payload), payload)
    if not any(key.verifies(signature, signed) for key in keys):
        if any(key.hint == hint for key in keys):
            raise SignatureError(SIGNATURE_FILE, "was changed: it is not what was signed")
        names = " or ".join(str(key.path) for key in keys)
        raise SignatureError(SIGNATURE_FILE, f"is by another key than {names}")
    try:
        return _manifest(payload_type, json.loads(payload))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SignatureError(
            SIGNATURE_FILE, "is signed, and says something else than which files a model has"
        ) from None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError from error


def _manifest(payload_type: bytes, statement: dict[str, Any]) -> Manifest:
    """Raises `ValueError`, or whatever a wrong form leads to."""
    predicate = statement["predicate"]
    serialization = predicate["serialization"]
    if (
        payload_type != PAYLOAD_TYPE
        or statement["predicateType"] != PREDICATE_TYPE
        or (serialization["method"], serialization["hash_type"]) != ("files", "sha256")
        or serialization["allow_symlinks"] is not False
    ):
        raise ValueError
    (subject,) = statement["subject"]
    files = {}
    for resource in predicate["resources"]:
        if resource["algorithm"] != "sha256" or resource["name"] in files:
            raise ValueError
        files[str(resource["name"])] = str(resource["digest"])
    return Manifest(str(subject["name"]), files)
