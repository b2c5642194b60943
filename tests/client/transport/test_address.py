"""Where the server is, and what TLS is spoken with: refused before anything is sent, over both protocols."""

import subprocess
from pathlib import Path

import pytest

from client import InvalidInput, VisionClient
from client.transport.address import PROTOCOLS
from tests.certificates import self_signed

UNREADABLE = "/proc/self/mem"  # to root as well: its first page is none


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A certificate and its key (chain.pem, key.pem), and files that are neither."""
    folder = tmp_path_factory.mktemp("tls")
    self_signed(folder)
    openssl(folder, "x509", "-in", "chain.pem", "-outform", "der", "-out", "chain.der")
    openssl(folder, "rsa", "-in", "key.pem", "-aes128", "-passout", "pass:sesame", "-out", "locked.pem")
    openssl(folder, "genrsa", "-out", "other.pem", "2048")
    (folder / "damaged.pem").write_text((folder / "chain.pem").read_text().replace("MII", "???", 1))
    (folder / "text.pem").write_text("no certificate\n")
    return folder


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("root", "chain", "key", "said"),
    [
        ("text.pem", None, None, "text.pem' holds no certificate"),
        ("chain.der", None, None, "chain.der' holds no certificate as PEM"),
        ("damaged.pem", None, None, "damaged.pem' holds no certificate as PEM, or a damaged one"),
        ("none.pem", None, None, "no certificate or key file '.*none.pem'"),
        (UNREADABLE, None, None, f"'{UNREADABLE}' cannot be read: Input/output error"),
        (None, "text.pem", "key.pem", "text.pem' holds no certificate"),
        (None, "key.pem", "chain.pem", "key.pem' holds no certificate"),
        (None, UNREADABLE, "key.pem", f"'{UNREADABLE}' cannot be read"),
        ("chain.pem", "chain.pem", "text.pem", "text.pem' holds no private key"),
        ("chain.pem", "chain.pem", "locked.pem", "locked.pem' holds no private key .*without a passphrase"),
        ("chain.pem", "chain.pem", "other.pem", "other.pem' does not belong to '.*chain.pem'"),
        ("chain.pem", "chain.pem", UNREADABLE, f"private key '{UNREADABLE}' cannot be read"),
    ],
)
def test_files_that_are_no_certificate_or_key_are_told(protocol, root, chain, key, said, folder):
    files = {"root_certificates": root, "certificate_chain": chain, "private_key": key}
    options = {name: str(folder / file) for name, file in files.items() if file}
    with pytest.raises(InvalidInput, match=said):
        VisionClient("localhost:9", protocol=protocol, **options)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_files_that_belong_together_are_taken(protocol, folder):
    own = {"certificate_chain": str(folder / "chain.pem"), "private_key": str(folder / "key.pem")}
    with VisionClient("localhost:9", protocol=protocol, **own) as client:
        assert client.url == f"{protocol}s://localhost:9"
