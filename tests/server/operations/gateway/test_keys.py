"""The file of keys: what it means, what it refuses, and the commands that write it."""

import errno
import hashlib
import json
import os
import stat

import pytest

from server.cli import main
from server.operations.gateway.keys import Grant, KeysError, add, maps, new_key, parse, remove, write

HASH, OTHER = "A" * 64, "B" * 64


def test_a_line_grants():
    text = f"# who\n\nalice sha256:{HASH.lower()} rate=5 concurrency=2 admin  # boss\nbob jwt\n"
    assert parse(text) == [Grant("alice", HASH, 5, 2, True), Grant("bob")]
    assert parse("".join(f"{grant.line()}\n" for grant in parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("alice", "after the tenant comes sha256:"),
        ("al/ice jwt", "is no tenant"),
        ("alice tvk_a_key_that_was_pasted_here", "after the tenant comes sha256:"),
        (f"alice sha256:{HASH[:-1]}", "64 hexadecimal digits"),
        ("alice jwt rate=0", "is none of rate=NUMBER"),
        ("alice jwt rate=-1", "is none of rate=NUMBER"),
        ("alice jwt root", "is none of rate=NUMBER"),
        (f"mallory sha256:{OTHER}", "the key is that of bob"),
        (f"bob sha256:{HASH} rate=9", "gives other limits"),
        (f"bob sha256:{HASH} admin", "or another role"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(line, why):
    with pytest.raises(KeysError, match=why) as refused:
        parse(f"bob sha256:{OTHER}\n{line}\n")
    assert "line 2" in str(refused.value)
    assert "tvk_a_key" not in str(refused.value)  # it would end in a log


def test_a_key_is_kept_as_its_hash():
    key, digest = new_key()
    assert hashlib.sha256(key.encode()).hexdigest().upper() == digest
    assert new_key()[0] != key
    text = add("", Grant("alice", digest))
    assert key not in text
    assert maps(parse(text)) == {
        "keys.map": {digest: "alice"},
        "tenants.map": {"alice": "50|16|user|key"},
    }


def test_one_key_of_several_is_removed():
    text = f"# kept\na sha256:{HASH}\na sha256:{OTHER}\nab jwt\n"
    assert remove(text, "a", "bb") == f"# kept\na sha256:{HASH}\nab jwt\n"
    assert remove(text, "a") == "# kept\nab jwt\n"
    with pytest.raises(KeysError, match="no line of b"):
        remove(text, "b")


def test_a_file_that_another_user_may_read_stays_so(tmp_path, capsys):
    """That of a gateway under systemd, to which root adds keys: docs/how-to/upgrade.md."""
    file = tmp_path / "keys"
    others = next((group for group in os.getgroups() if group != os.getgid()), os.getgid())
    group = 65534 if os.getuid() == 0 else others
    assert main(["keys", "add", "alice", f"--gateway-keys={file}"]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    os.chown(file, -1, group)
    file.chmod(0o640)
    for command in (["add", "bob"], ["remove", "alice"]):
        assert main(["keys", *command, f"--gateway-keys={file}"]) == 0
        assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_gid) == (0o640, group)
    assert [grant.tenant for grant in parse(file.read_text())] == ["bob"]
    if group == os.getgid():
        pytest.skip("only the mode was tested: a user of one group can give a file to no other one")


def test_a_file_whose_group_cannot_be_kept_stays_as_it_was(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    file = tmp_path / "keys"
    file.write_text("# nobody\n")
    monkeypatch.setattr(os, "fchown", refused)
    with pytest.raises(KeysError, match="owner and group cannot be kept"):
        write(file, "# somebody\n")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("keys", "# nobody\n")]


def test_the_commands(tmp_path, capsys):
    file = f"--gateway-keys={tmp_path / 'keys.txt'}"
    assert main(["keys", "add", "alice", "--rate", "7", "--admin", file]) == 0
    first = capsys.readouterr().out.strip()
    assert main(["keys", "add", "alice", file, "--json"]) == 0  # a second key has the limits of the first
    second = json.loads(capsys.readouterr().out)
    assert main(["keys", "list", file, "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(grant["tenant"], grant["rate"], grant["admin"]) for grant in listed] == [("alice", 7, True)] * 2
    assert stat.S_IMODE((tmp_path / "keys.txt").stat().st_mode) == 0o600
    assert first not in (tmp_path / "keys.txt").read_text()
    assert main(["keys", "remove", "alice", "--hash", second["hash"][:8], file]) == 0
    assert main(["keys", "list", file]) == 0
    assert capsys.readouterr().out.split()[:2] == ["alice", listed[0]["digest"][:12]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["remove", "bob"], "`python -m server keys add TENANT` makes one"),
        (["list"], "there is no file of keys"),
        (["add", "a b"], "is no tenant"),
        (["add", "bob", "--rate", "0"], "is none of rate=NUMBER"),
    ],
)
def test_the_commands_say_why_not(arguments, said, tmp_path, capsys):
    assert main(["keys", *arguments, f"--gateway-keys={tmp_path / 'keys.txt'}"]) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
