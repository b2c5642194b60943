"""A signature is OpenSSF's; what else the right key may have said vouches for nothing."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import hashing, signing, verifying

from server.environment.trust import signatures
from server.environment.trust.keys import read_keys
from server.environment.trust.signatures import SIGNATURE_FILE
from server.errors import SignatureError
from tests.server.environment.trust.signed_models import copies


def test_a_signature_is_openssfs_and_openssfs_is_taken(repository, key, public):
    model = repository / "one"
    checked = verifying.Config().use_elliptic_key_verifier(public_key=public)
    checked.verify(model, model / SIGNATURE_FILE)
    rules = hashing.Config().set_ignored_paths(paths=[SIGNATURE_FILE], ignore_git_paths=False)
    theirs = signing.Config().set_hashing_config(rules).use_elliptic_key_signer(private_key=key)
    theirs.sign(model, model / SIGNATURE_FILE)
    assert not copies(repository, public).refused


def forged(repository, key, change):
    """The statement of `one`, changed and signed with the right key."""
    path = repository / "one" / SIGNATURE_FILE
    bundle = json.loads(path.read_text())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement, bundle)
    payload = json.dumps(statement).encode()
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    kind = bundle["dsseEnvelope"]["payloadType"].encode()
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    signature = load_pem_private_key(key.read_bytes(), None).sign(signed, ec.ECDSA(hashes.SHA256()))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    path.write_text(json.dumps(bundle))


@pytest.mark.parametrize(
    "change",
    [
        lambda statement, bundle: statement.update(predicateType="https://model_signing/Digests/v0.1"),
        lambda statement, bundle: statement["predicate"]["serialization"].update(method="shards"),
        lambda statement, bundle: statement["predicate"]["serialization"].update(hash_type="blake2"),
        lambda statement, bundle: statement["predicate"]["serialization"].update(allow_symlinks=True),
        lambda statement, bundle: statement.update(subject=[]),
        lambda statement, bundle: bundle["dsseEnvelope"].update(payloadType="text/plain"),
        lambda statement, bundle: statement["predicate"]["resources"].append(
            statement["predicate"]["resources"][0]
        ),
    ],
)
def test_other_statements_by_the_right_key_vouch_for_nothing(change, repository, key, public):
    forged(repository, key, change)
    assert "says something else" in copies(repository, public).refused["one"]


@pytest.mark.parametrize("name", ["../two/labels.txt", "/etc/hostname", "1/../labels.txt"])
def test_a_signed_path_out_of_the_folder_is_never_followed(name, repository, key, public):
    def add(statement, bundle):
        statement["predicate"]["resources"].append({"name": name, "algorithm": "sha256", "digest": "0" * 64})

    forged(repository, key, add)
    assert "is missing" in copies(repository, public).refused["one"]


def test_a_signature_cannot_leave_files_out(repository, key, public):
    forged(
        repository,
        key,
        lambda statement, _: statement["predicate"]["serialization"].update(ignore_paths=["1/evil.py"]),
    )
    (repository / "one" / "1" / "evil.py").write_text("")
    assert copies(repository, public).refused["one"].startswith("one/1/evil.py was added")


def test_a_signature_of_many_parts_is_not_read(public, monkeypatch):
    """Five million empty objects would take 400 MB."""
    monkeypatch.setattr(signatures.json, "loads", lambda _: pytest.fail("it is read"))
    with pytest.raises(SignatureError, match="is no signature"):
        signatures.read_signature(b"[" + b"{}," * 2000 + b"{}]", read_keys([public]))
