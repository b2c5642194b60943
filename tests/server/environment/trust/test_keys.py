"""Which keys are taken, and what is none says so."""

import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from export.repository.signing import Signer, new_key
from server.environment.trust.keys import read_keys
from server.errors import KeyFileError, RepositoryError
from tests.server.environment.trust.signed_models import copies


def test_another_key_is_refused_and_several_may_be_given(repository, public, tmp_path):
    other = new_key(tmp_path / "keys" / "other.pem")
    Signer(tmp_path / "keys" / "other.pem").sign(repository / "two")
    assert copies(repository, public).refused == {"two": f"two/model.sig is by another key than {public}"}
    assert not copies(repository, other, public).refused
    shutil.rmtree(repository / "two")
    with pytest.raises(RepositoryError, match=r"one/model\.sig is by another key than .*export sign"):
        copies(repository, other)


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_other_curves(curve, repository, tmp_path):
    key = ec.generate_private_key(curve)
    private, public = tmp_path / "k", tmp_path / "k.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for model in ("one", "two"):
        Signer(private).sign(repository / model)
    assert not copies(repository, public).refused


def test_what_is_no_public_key_says_so(key, tmp_path):
    with pytest.raises(KeyFileError, match="is a private key"):
        read_keys([key])
    with pytest.raises(KeyFileError, match="cannot be read: No such file"):
        read_keys([tmp_path / "nothing"])
    (tmp_path / "text").write_text("hello")
    with pytest.raises(KeyFileError, match="is no public key in PEM"):
        read_keys([tmp_path / "text"])
    (tmp_path / "models").mkdir()
    inside = shutil.copy(key.with_suffix(".pub.pem"), tmp_path / "models")
    (tmp_path / "keys" / "link.pem").symlink_to(inside)
    for path in (inside, tmp_path / "keys" / "link.pem"):
        with pytest.raises(KeyFileError, match="lies in the model repository"):
            read_keys([path], tmp_path / "models")
    (tmp_path / "text").write_bytes(key.with_suffix(".pub.pem").read_bytes() * 2)
    with pytest.raises(KeyFileError, match="holds several keys"):
        read_keys([tmp_path / "text"])
    (tmp_path / "text").write_bytes(b"")
    with pytest.raises(KeyFileError, match="is no public key in PEM"):
        read_keys([tmp_path / "text"])
    bitcoins = ec.generate_private_key(ec.SECP256K1()).public_key()
    (tmp_path / "text").write_bytes(bitcoins.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyFileError, match="of the curves secp256r1"):
        read_keys([tmp_path / "text"])
    other = ed25519.Ed25519PrivateKey.generate().public_key()
    (tmp_path / "text").write_bytes(other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyFileError, match="of the curves secp256r1"):
        read_keys([tmp_path / "text"])
