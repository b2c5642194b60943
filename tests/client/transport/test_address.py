"""Where the server is, and what TLS is spoken with: refused before anything is sent, over both protocols."""

import subprocess
from pathlib import Path

import pytest

from client import InvalidInput, VisionClient
from client.cli.arguments import parser
from client.cli.main import RUNS, main
from client.cli.server_options import client_options
from client.transport.address import PROTOCOLS, Address
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


# --- keys


def test_a_key_is_sent_as_a_header(monkeypatch):
    monkeypatch.setenv("TRITON_VISION_API_KEY", "tvk_environment")
    assert Address.parse("localhost").headers == {"x-api-key": "tvk_environment"}
    address = Address.parse("localhost", api_key="tvk_given", headers={"a": "b"})
    assert address.headers == {"a": "b", "x-api-key": "tvk_given"}
    assert "tvk_given" not in repr(address)
    assert Address.parse("localhost", api_key="").headers == {}  # none at all, whatever the environment says


@pytest.mark.parametrize("key", ["a b", "a\nb", "kéy", " "])
def test_what_is_no_key_is_refused_and_not_repeated(key):
    with pytest.raises(InvalidInput, match="no key has") as refused:
        VisionClient(api_key=key)
    assert key.strip() not in str(refused.value) or not key.strip()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("grpc://gateway.example:8443", True),
        ("http://10.0.0.7:8443", True),
        ("grpcs://gateway.example:8443", False),
        ("https://10.0.0.7:8443", False),
        ("localhost", False),
        ("[::1]:8443", False),
    ],
)
def test_a_key_in_plain_text_is_warned_of(url, told, caplog):
    Address.parse(url, api_key="tvk_secret")
    assert ("in plain text" in caplog.text) is told
    assert "tvk_secret" not in caplog.text


def test_the_command_reads_a_key_from_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TRITON_VISION_API_KEY", raising=False)
    (tmp_path / "key").write_text("tvk_file\n")
    (tmp_path / "empty").write_text("\n")
    options = parser(dict.fromkeys(RUNS, main)).parse_args(
        ["health", "--api-key-file", str(tmp_path / "key")]
    )
    assert client_options(options)["api_key"] == "tvk_file"
    for name, said in (("none", "cannot be read"), ("empty", "holds no API key")):
        assert main(["health", "--api-key-file", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err
