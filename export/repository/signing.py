"""Signatures of models: a file `model.sig` in a model's folder, over every other file in it and its name.

They are written by OpenSSF's `model-signing`, and held at once against what `python -m server --verify-key`
asks of them, which is more: nothing is left out, and no folder is without a signed file.
"""

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from export.common.errors import SigningError
from export.repository.publish import STAGING, versions
from server.environment.trust.folders import BYTECODE_FOLDER, BYTECODE_SUFFIX
from server.environment.trust.keys import CURVES, read_keys
from server.environment.trust.signatures import SIGNATURE_FILE
from server.environment.trust.verified import verified
from server.errors import ServerError, SignatureError

__all__ = ["Signer", "Verifier", "new_key", "signable_models"]

PRIVATE_MODE = 0o600


def new_key(path: Path) -> Path:
    """Write a new private key (P-256, PEM, readable by its owner only) to `path`; where its public one is.

    Raises `SigningError` if either file is there already, or cannot be written.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    public = path.with_suffix(".pub.pem")
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write_new(public, pem, 0o644)
    try:
        _write_new(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), PRIVATE_MODE)
    except SigningError:
        public.unlink()
        raise
    return public


def signable_models(repository: Path, names: Sequence[str] = ()) -> list[str]:
    """`names`, or all models that have a version to load. Raises `SigningError` where there is none."""
    if names:
        for name in names:
            if Path(name).name != name or name in ("", ".", "..") or not os.path.isdir(repository / name):
                raise SigningError(f"there is no model {name} in {repository}")
            if not versions(repository / name):
                raise SigningError(
                    f"{name} has no version to load yet: export it first, then sign what there is"
                )
        return list(dict.fromkeys(names))
    try:
        folders = [path for path in sorted(repository.iterdir()) if path.is_dir() and path.name[0] != "."]
    except OSError as error:
        raise SigningError(f"{repository} cannot be read: {error.strerror}") from None
    if models := [folder.name for folder in folders if versions(folder)]:
        return models
    raise SigningError(f"no model in {repository} has a version to load; export one first")


@dataclass(frozen=True)
class Signer:
    """Signs with the private key in the PEM file `key`, which `password` decrypts where it is encrypted.

    Raises `SigningError` if it is no such key.
    """

    key: Path
    password: bytes | None = None

    def __post_init__(self) -> None:
        self._public_pem()

    @staticmethod
    def is_encrypted(key: Path) -> bool:
        """Whether the file asks for a password; False, too, for one that cannot be read."""
        try:
            return b"ENCRYPTED" in key.read_bytes()
        except OSError:
            return False

    def sign(self, model_folder: Path) -> Mapping[str, str]:
        """Write the signature of a model's folder as it is, in place of one that is there; the files' sha256.

        What Python compiled there (`__pycache__/*.pyc`) is removed before: it would be signed else.
        Raises `SigningError` that names the file for what a server would refuse, and leaves all as it was.
        """
        from model_signing import hashing, signing  # takes half a second, for sigstore's parts

        folder = model_folder.resolve() if not model_folder.is_symlink() else model_folder
        rules = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
        config = signing.Config().set_hashing_config(rules)
        # bytes, whatever its annotation says: cryptography takes no other password
        config.use_elliptic_key_signer(private_key=self.key, password=self.password)  # type: ignore[arg-type]
        try:
            _remove_bytecode(folder)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=STAGING) as staging:
                signature, public = Path(staging, SIGNATURE_FILE), Path(staging, "public.pem")
                config.sign(folder, signature)
                public.write_bytes(self._public_pem())
                files = verified(folder, read_keys([public]), signature=signature)[0].files
                signature.chmod(0o644)
                os.replace(signature, folder / SIGNATURE_FILE)
        except SignatureError as error:
            raise SigningError(f"{folder.name} cannot be signed: {error}; {_advice(error)}") from None
        except OSError as error:
            raise SigningError(f"{folder.name} cannot be signed: {error}") from None
        except ValueError as error:  # the library's: a link, a special file
            raise SigningError(f"{folder.name} cannot be signed: {error}; replace it with a file") from None
        return files

    def _public_pem(self) -> bytes:
        try:
            key = load_pem_private_key(self.key.read_bytes(), self.password)
        except OSError as error:
            raise SigningError(f"the key {self.key} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise SigningError(
                f"{self.key} is no private key in PEM, or the password is not its; "
                "`python -m export sign --new-key FILE` makes one"
            ) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
            raise SigningError(
                f"{self.key} is no key of the curves P-256, P-384 or P-521; "
                "`python -m export sign --new-key FILE` makes one"
            )
        return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Verifier:
    """Says what a server with these public keys would; `SigningError` if a file holds none."""

    def __init__(self, keys: Sequence[Path]):
        try:
            self._keys = read_keys(keys)
        except ServerError as error:
            raise SigningError(str(error)) from None

    def verify(self, model_folder: Path) -> Mapping[str, str]:
        """The sha256 of a model's files. Raises `SigningError` that names the one for which it is refused."""
        try:
            return verified(model_folder, self._keys)[0].files
        except (SignatureError, OSError) as error:
            raise SigningError(f"{model_folder.name} is refused: {error}") from None


def _remove_bytecode(model_folder: Path) -> None:
    for file in model_folder.rglob(f"{BYTECODE_FOLDER}/*{BYTECODE_SUFFIX}"):
        if not file.parent.is_symlink() and file.is_file():
            file.unlink()
            with contextlib.suppress(OSError):  # something else is there, and is signed
                file.parent.rmdir()


def _advice(error: SignatureError) -> str:
    if "folder" in error.fault:
        return "remove it, or put a file into it, such as .gitkeep"
    return "make it a regular file that stays as it is meanwhile"


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        raise SigningError(f"{path} is there already, and is not written over; give another name") from None
    except OSError as error:
        raise SigningError(f"{path} cannot be written: {error.strerror}") from None
    with open(descriptor, "wb") as file:
        file.write(content)
