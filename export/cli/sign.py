"""The command line of `python -m export sign`."""

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from export.common.errors import SigningError
from export.common.exit_codes import exit_code
from export.repository import MODEL_REPOSITORY
from export.repository.signing import Signer, Verifier, new_key, signable_models

__all__ = ["DESCRIPTION", "EXIT_CODES", "add_arguments", "run"]

DESCRIPTION = """\
Sign models: `python -m server --verify-key PUBLIC.pem` then loads them as they are now, and not when anything
in their folders is changed, added or removed. The signature is the file model.sig in a model's folder, in the
format of OpenSSF Model Signing. What changes a model, an export too, makes it worthless until you sign again.
"""
EXIT_CODES = """\
examples:
  python -m export sign --new-key keys/models.pem           and keys/models.pub.pem, for servers
  python -m export sign --key keys/models.pem               all models that have a version to load
  python -m export sign read_text --key keys/models.pem
  python -m export sign --verify --key keys/models.pub.pem  what a server would say
exit codes: 0 all are signed, or verified; 1 one is not; 2 wrong usage
"""


def run(options: argparse.Namespace) -> int:
    """Returns the exit code."""
    if options.new_key and (options.models or options.key or options.verify):
        options.parser.error("--new-key makes a key pair and nothing else: give it alone")
    if not options.new_key and not options.key:
        options.parser.error("give --key KEY, or make one with --new-key FILE")
    if not options.verify and len(options.key) > 1:
        options.parser.error("a model has one signature: give one --key")
    return exit_code(lambda: _run(options), (SigningError,))


def _run(options: argparse.Namespace) -> int:
    if options.new_key:
        return _new_key(options)
    repository = options.model_repository
    models = signable_models(repository, options.models)
    if options.verify:
        verifier = Verifier(options.key)
        return _each(models, options, "verified", lambda model: verifier.verify(repository / model))
    (key,) = options.key
    signer = Signer(key, _password(key) if Signer.is_encrypted(key) else None)
    return _each(models, options, "signed", lambda model: signer.sign(repository / model))


def _password(key: Path) -> bytes:
    try:
        return getpass.getpass(f"password of {key}: ").encode()
    except EOFError:
        raise SigningError(
            f"{key} has a password, and nobody is there to type it; nothing is signed"
        ) from None


def _each(
    models: list[str], options: argparse.Namespace, done: str, do: Callable[[str], Mapping[str, str]]
) -> int:
    """Do it to each, whatever comes of the others."""
    results: list[dict[str, Any]] = []
    for model in models:
        try:
            files = dict(do(model))
            results.append({"name": model, "outcome": done, "files": files})
            if not options.json:
                print(f"{done} {model}: {len(files)} file{'' if len(files) == 1 else 's'}", flush=True)
        except SigningError as error:
            results.append({"name": model, "outcome": "refused", "error": str(error)})
            print(f"error: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps(results, indent=2))
    return 1 if any(result["outcome"] == "refused" for result in results) else 0


def _new_key(options: argparse.Namespace) -> int:
    path: Path = options.new_key
    if options.model_repository.resolve() in path.resolve().parents:
        raise SigningError(f"{path} is in the model repository, where servers read: keep a key elsewhere")
    public = new_key(path)
    if options.json:
        print(json.dumps({"private": str(path), "public": str(public)}, indent=2))
    else:
        print(
            f"{path}: private; keep it where models are signed, and nowhere else\n{public}: for servers\n"
            f"sign:  python -m export sign --key {path}\nserve: python -m server --verify-key {public}"
        )
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that `run` reads."""
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="those of the repository; all that have a version, if none"
    )
    parser.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="to sign: a private key in PEM, of the curves P-256, P-384 or P-521 (a password is asked for); "
        "with --verify: public keys, of which one must fit",
    )
    parser.add_argument(
        "--verify", action="store_true", help="sign nothing: say which models a server with --key would load"
    )
    parser.add_argument(
        "--new-key", type=Path, metavar="FILE", help="write a private key to FILE, its public one beside it"
    )
    parser.add_argument("--model-repository", type=Path, metavar="FOLDER", default=MODEL_REPOSITORY)
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
