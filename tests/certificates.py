"""Certificates for TLS between processes of a test."""

import shutil
import subprocess
from pathlib import Path

import pytest


def self_signed(folder: Path) -> tuple[str, str]:
    """For localhost, good for both sides of mutual TLS, and its key. Skips without openssl."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    chain, key = str(folder / "chain.pem"), str(folder / "key.pem")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*request, *subject, "-keyout", key, "-out", chain], check=True, capture_output=True)
    return chain, key
