"""HAProxy's configuration: every setting gives one that it takes, and what cannot be is refused before."""

import re
from pathlib import Path

import pytest

from server.cli import main
from server.operations.gateway.config.endpoints import ADMIN_ENDPOINTS, GRPC_ENDPOINTS, HTTP_ENDPOINTS
from server.operations.gateway.config.files import stateful_models
from server.operations.gateway.config.rendering import render
from server.operations.gateway.process import check, find_haproxy
from server.operations.gateway.settings import (
    MOST_SERVERS,
    Settings,
    SettingsError,
    Tokens,
    Upstream,
    numbered,
)
from tests.certificates import self_signed
from tests.gateways import SECRET, needs_haproxy, write_models

ASKED = "--server=127.0.0.1:8000:8001:8003"  # its launcher, which models it lacks
SERVERS = ["--server=127.0.0.1:8000:8001:8003", "--server=[::1]:8010:8011"]


@pytest.fixture
def models(tmp_path):
    return write_models(tmp_path / "models")


def rendered(tmp_path, models, *options) -> Path:
    output = tmp_path / "out"
    command = [
        "gateway",
        "render",
        f"--output={output}",
        f"--folder={output}",
        f"--model-repository={models}",
    ]
    assert main([*command, *options]) == 0
    return output / "haproxy.cfg"


def limits(config: Path) -> list[int]:
    """Of each server for requests over HTTP, over gRPC, and for streams."""
    found = []
    for section in config.read_text().split("\nbackend triton_")[1:]:
        each = re.findall(r"server s.* maxconn (\d+)", section)
        assert len(each) == MOST_SERVERS
        assert len(set(each)) == 1
        found.append(int(each[0]))
    return found


@pytest.mark.parametrize(("cores", "at_a_time"), [(1, 4), (2, 4), (8, 16)])
def test_as_many_at_a_time_as_the_cores_take(cores, at_a_time, tmp_path, models, monkeypatch):
    """And not more, or accepted requests wait behind them when there are too many: docs/why/faults.md."""
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert limits(rendered(tmp_path, models, *SERVERS)) == [at_a_time, at_a_time, 16]
    asked = rendered(tmp_path, models, *SERVERS, "--gateway-concurrency=7")
    assert limits(asked) == [7, 7, 16]
    asked = rendered(tmp_path, models, *SERVERS, "--gateway-concurrency=20")
    assert limits(asked) == [20, 20, 20]


@pytest.mark.parametrize(("hard", "clients"), [(1_048_576, 2000), (4096, 649), (500, 100)])
def test_each_client_has_descriptors_for_the_servers_too(hard, clients, tmp_path, models, monkeypatch):
    """HAProxy keeps up to five connections to servers for each of its own, and reserves two a connection."""
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, hard))
    config = rendered(tmp_path, models, *SERVERS).read_text()
    reserved, let_in = map(int, re.findall(r"^    maxconn (\d+)$", config, re.MULTILINE))
    assert let_in == clients
    assert 2 * reserved == clients * (1 + 5)
    if clients > 100:
        assert 2 * reserved + 200 <= hard


def test_a_request_that_fits_its_buffer_waits_for_no_window(tmp_path, models):
    config = rendered(tmp_path, models, *SERVERS).read_text()
    assert "tune.bufsize 262144\n" in config
    assert "tune.h2.initial-window-size 245760\n" in config
    small = rendered(tmp_path, models, *SERVERS, "--gateway-buffer=64").read_text()
    assert "tune.h2.initial-window-size 65535\n" in small


@needs_haproxy
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--gateway-origins=https://a.example,http://[::1]:3000"],
        ["--gateway-max-body=1", "--gateway-buffer=64", "--gateway-concurrency=3"],
        ["--resolver=127.0.0.1:53"],
        ["--resolver=system"],
        ["--address=::"],
    ],
)
def test_haproxy_takes_it(options, tmp_path, models):
    check(find_haproxy(), rendered(tmp_path, models, *SERVERS, *options))
    check(find_haproxy(), rendered(tmp_path, models, ASKED, *options))


@needs_haproxy
def test_haproxy_takes_tokens_and_certificates(tmp_path, models):
    chain, key = self_signed(tmp_path)
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    certificate = [f"--gateway-certificate={chain}", f"--gateway-certificate-key={key}"]
    claims = ["--gateway-jwt-audience=vision", "--gateway-jwt-issuer=https://id.example"]
    for tokens in (f"--gateway-jwt-secret={tmp_path / 'secret'}", f"--gateway-jwt-public-key={chain}"):
        config = rendered(tmp_path, models, *SERVERS, tokens, *claims, *certificate)
        check(find_haproxy(), config)


def test_models_of_sequences_are_known_by_their_configuration(models):
    assert stateful_models(models) == ["counter"]


def test_every_endpoint_of_an_admin_is_one():
    known = {endpoint.name for endpoint in HTTP_ENDPOINTS} & set(GRPC_ENDPOINTS.values())
    assert set(ADMIN_ENDPOINTS) <= known


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"origins": ("https://a.example/path",)}, "is no origin"),
        ({"origins": ("*",)}, "is no origin"),
        ({"certificate": "/a b.pem"}, "has characters other than"),
        ({"max_body_bytes": 0}, "the largest body"),
        ({"buffer_bytes": 2**30}, "the buffer of a request"),
        ({"concurrency": -1}, "1 or more"),
        ({"port": 8404}, "--gateway-metrics-port"),
    ],
)
def test_settings_that_cannot_be(wrong, why):
    with pytest.raises(SettingsError, match=why):
        Settings(Path("/run"), **wrong)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"secret": "short"}, "32 to 256"),
        ({"secret": f'{SECRET}") #'}, "32 to 256"),
        ({}, "one of the two"),
        ({"secret": SECRET, "public_key": "/k.pem"}, "one of the two"),
        ({"secret": SECRET, "audience": "a b"}, "the audience"),
    ],
)
def test_tokens_that_cannot_be(wrong, why):
    with pytest.raises(SettingsError, match=why):
        Tokens(**wrong)


def test_nothing_of_a_token_is_read_before_it_is_verified():
    """HAProxy's reader of JSON has been ended by numbers, and may be again."""
    config = render(Settings(Path("/run"), tokens=Tokens(SECRET, audience="a", issuer="b")), {})
    first, *others = (line for line in config.splitlines() if "jwt_" in line)
    assert "jwt_verify" in first
    assert len(others) >= 4
    for line in others:
        condition = line.partition(" if ")[2]
        assert condition.startswith(("{ var(txn.by) -m str signature }", "{ var(txn.by) -m str token }"))


def test_keys_do_not_cross_a_network_in_plain_text():
    Settings(Path("/run"), address="127.0.0.1").check_exposure()
    Settings(Path("/run"), address="0.0.0.0", certificate="/tls.pem").check_exposure()
    with pytest.raises(SettingsError, match="give --gateway-certificate"):
        Settings(Path("/run"), address="0.0.0.0").check_exposure()


def test_there_are_as_many_servers_as_slots():
    assert list(numbered([Upstream("a", 1, 2)] * 16)) == [f"s{number}" for number in range(1, 17)]
    with pytest.raises(SettingsError, match="more than the 16"):
        numbered([Upstream("a", 1, 2)] * 17)
