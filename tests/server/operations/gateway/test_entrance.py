"""Who is let in, and to what: HAProxy as the gateway configures it, without a server behind it.

Whoever passes is told that no server is ready: 503 over HTTP, UNAVAILABLE over gRPC.
"""

import http.client
import json
import socket
import time

import grpc
import pytest
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from server.operations.gateway.keys import Grant
from server.operations.gateway.settings import Tokens
from tests.gateways import SECRET, Tenants, alone, ask, needs_haproxy, token, write_models
from tests.processes import wait_until

pytestmark = needs_haproxy

MODEL = "/v2/models/tiny"
ORIGIN = "https://app.example"
NOBODY_IS_READY = 503


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("entrance") / "models")


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    many = {"rate": 100_000, "concurrency": 1000}
    tenants = Tenants(
        tmp_path_factory.mktemp("keys") / "keys.txt",
        Grant("alice", **many),
        Grant("root", admin=True, **many),
        Grant("slow", rate=1, concurrency=5),
    )
    with tenants.file.open("a") as file:
        file.write("bob jwt rate=100000 concurrency=1000\n")
    return tenants


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def gateway(tenants, models, log):
    tokens = Tokens(SECRET, audience="vision", issuer="https://id.example")
    with alone(tenants, models, log, tokens=tokens, origins=(ORIGIN,)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def port(gateway):
    return gateway.settings.port


def refusal(port, method="ServerLive", **headers):
    """gRPC's status and message."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        with pytest.raises(grpc.RpcError) as refused:
            call(
                b"", metadata=[(name.replace("_", "-"), value) for name, value in headers.items()], timeout=60
            )
    return refused.value.code(), refused.value.details()


# --- who


def test_nobody_comes_in_without_a_key(port, tenants):
    for headers in ({}, {"x-api-key": ""}, {"x-api-key": "tvk_wrong"}, {"authorization": "Basic YTpi"}):
        status, answered, body = ask(port, "GET", "/v2", headers)
        assert (status, answered["content-type"]) == (401, "application/json")
        assert "x-api-key" in json.loads(body)["error"]
        assert answered["www-authenticate"] == "Bearer"
    digest = tenants.file.read_text().split("sha256:")[1][:64]  # who reads the file has no key
    assert ask(port, "GET", "/v2", {"x-api-key": digest})[0] == 401
    code, said = refusal(port)
    assert code == grpc.StatusCode.UNAUTHENTICATED
    assert "x-api-key" in said


def test_a_key_is_taken_in_either_header(port, tenants):
    key = tenants.keys["alice"]
    assert ask(port, "GET", "/v2", {"x-api-key": key})[0] == NOBODY_IS_READY
    assert ask(port, "GET", "/v2", {"authorization": f"Bearer {key}"})[0] == NOBODY_IS_READY
    assert refusal(port, x_api_key=key)[0] == grpc.StatusCode.UNAVAILABLE
    assert refusal(port, authorization=f"Bearer {key}")[0] == grpc.StatusCode.UNAVAILABLE


CLAIMS = {"sub": "bob", "aud": "vision", "iss": "https://id.example"}


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (lambda now: token(exp=now + 600, **CLAIMS), NOBODY_IS_READY),
        (lambda now: token(exp=now + 600, nbf=now - 5, **CLAIMS), NOBODY_IS_READY),
        (lambda now: token(exp=now - 1, **CLAIMS), 401),
        (lambda now: token(exp=now + 600, nbf=now + 300, **CLAIMS), 401),
        (lambda now: token(**CLAIMS), 401),  # good for ever
        (lambda now: token(exp=-5, **CLAIMS), 401),
        (lambda now: token(exp=-1e18, **CLAIMS), 401),
        (lambda now: token(exp=2**63 - 1, **CLAIMS), 401),
        (lambda now: token(exp=now + 600, nbf=2**63, **CLAIMS), 401),
        (lambda now: token(exp="never", **CLAIMS), 401),
        (lambda now: token(exp=now + 600, **{**CLAIMS, "aud": "other"}), 401),
        (lambda now: token(exp=now + 600, **{**CLAIMS, "iss": "https://evil.example"}), 401),
        (lambda now: token(exp=now + 600, **{**CLAIMS, "sub": "nobody"}), 401),
        (lambda now: token(exp=now + 600, **{**CLAIMS, "sub": "root"}), 401),  # has a key, and no `jwt` line
        (lambda now: token("x" * 32, exp=now + 600, **CLAIMS), 401),
        (lambda now: token(algorithm="none", exp=now + 600, **CLAIMS), 401),
        (lambda now: token(algorithm="HS512", exp=now + 600, **CLAIMS), 401),
        (lambda now: token(exp=now + 600, **CLAIMS).rpartition(".")[0] + ".", 401),
    ],
)
def test_tokens(made, status, port):
    now = int(time.time())
    bearer = {"authorization": f"Bearer {made(now)}"}
    assert ask(port, "GET", "/v2", bearer)[0] == status


@pytest.mark.parametrize("header", ["x-api-key", "authorization"])
def test_who_asks_is_said_once(header, port, tenants):
    """Else whoever looks at the first one, and whoever looks at the last one, would see two."""
    words = {
        name: f"Bearer {key}" if header == "authorization" else key for name, key in tenants.keys.items()
    }
    for first, second in (("alice", "root"), ("root", "alice"), ("alice", "alice")):
        request = (
            f"GET /v2 HTTP/1.1\r\nhost: g\r\n{header}: {words[first]}\r\n{header}: {words[second]}\r\n\r\n"
        )
        assert answer_to(port, request.encode()).startswith(b"HTTP/1.1 400 ")
    assert ask(port, "GET", "/v2", {"x-api-key": f"{tenants.keys['alice']}, x"})[0] == 401


def answer_to(port, request):
    """The bytes of the first answer, to these."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        return connection.recv(65536)


def test_health_needs_no_key(port):
    assert ask(port, "GET", "/v2/health/live")[0] == 200
    status, _, body = ask(port, "GET", "/v2/health/ready")
    assert (status, json.loads(body)) == (503, {"error": "no server is ready; ask again later"})


# --- what


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/metrics", 404),
        ("GET", "/v2/models", 404),
        ("GET", f"{MODEL}/../../repository/index", 404),
        ("POST", "/v2/models/../repository/index", 404),
        ("POST", "/v2//repository/index", 404),
        ("POST", "/v2/repository/%69ndex", 404),
        ("POST", "/v2/./repository/index", 404),
        ("POST", "/V2/repository/index", 404),
        ("POST", "/v2/repository/index/", 404),
        ("POST", "/v2/repository/index;x", 404),
        ("POST", "//v2/repository/index", 404),
        ("POST", "/v2/models/%2e%2e/infer", 404),
        ("POST", "/v2/models/a%2f..%2fb/infer", 404),
        ("POST", "/v2/models/.hidden/infer", 404),
        ("POST", f"/v2/models/{'a' * 129}/infer", 404),
        ("POST", "/v2/models/tiny/versions/-1/infer", 404),
        ("POST", "/v2/repository/index", 403),
        ("POST", "/v2/repository/index?x=/v2/models/tiny", 403),
        ("POST", "http://127.0.0.1/v2/repository/index", 403),
        ("POST", "/v2/repository/models/tiny/load", 403),
        ("POST", "/v2/repository/models/tiny/unload", 403),
        ("GET", "/v2/systemsharedmemory/status", 403),
        ("POST", "/v2/systemsharedmemory/region/a/register", 403),
        ("POST", "/v2/cudasharedmemory/unregister", 403),
        ("GET", "/v2/logging", 403),
        ("POST", "/v2/logging", 403),
        ("POST", "/v2/trace/setting", 403),
        ("GET", f"{MODEL}/trace/setting", 403),
        ("GET", f"{MODEL}/stats", 403),
        ("GET", "/v2/models/stats", 403),
        ("DELETE", MODEL, 405),
        ("GET", f"{MODEL}/infer", 405),
        ("POST", MODEL, 405),
        ("GET", MODEL, NOBODY_IS_READY),
        ("GET", f"{MODEL}/versions/1/ready", NOBODY_IS_READY),
        ("GET", f"{MODEL}/config?x=1", NOBODY_IS_READY),
    ],
)
def test_paths(method, path, status, port, tenants):
    answered, _, body = ask(port, method, path, tenants["alice"], b"" if method == "POST" else None)
    assert answered == status
    assert json.loads(body)["error"]


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("RepositoryIndex", grpc.StatusCode.PERMISSION_DENIED),
        ("RepositoryModelLoad", grpc.StatusCode.PERMISSION_DENIED),
        ("SystemSharedMemoryRegister", grpc.StatusCode.PERMISSION_DENIED),
        ("LogSettings", grpc.StatusCode.PERMISSION_DENIED),
        ("TraceSetting", grpc.StatusCode.PERMISSION_DENIED),
        ("ModelStatistics", grpc.StatusCode.PERMISSION_DENIED),
        ("repositoryindex", grpc.StatusCode.UNIMPLEMENTED),
        ("../inference.GRPCInferenceService/RepositoryIndex", grpc.StatusCode.UNIMPLEMENTED),
        ("Nothing", grpc.StatusCode.UNIMPLEMENTED),
        ("ServerReady", grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_methods_of_grpc(method, code, port, tenants):
    found, said = refusal(port, method, x_api_key=tenants.keys["alice"])
    assert found == code
    assert said


def test_an_admin_may(port, tenants):
    assert ask(port, "POST", "/v2/repository/index", tenants["root"], b"{}")[0] == NOBODY_IS_READY
    key = tenants.keys["root"]
    assert refusal(port, "RepositoryIndex", x_api_key=key)[0] == grpc.StatusCode.UNAVAILABLE


def test_http_does_not_pass_for_grpc(port, tenants):
    """What is looked at as one must not reach the port of the other."""
    as_grpc = {**tenants["alice"], "content-type": "application/grpc"}
    assert ask(port, "POST", f"{MODEL}/infer", as_grpc, b"{}")[1]["grpc-status"] == "12"
    method = "/inference.GRPCInferenceService/ModelInfer"
    assert ask(port, "POST", method, tenants["alice"], b"")[0] == 404
    assert (
        ask(port, "POST", method, {**tenants["alice"], "content-type": "application/grpc-web"}, b"")[0] == 404
    )


# --- how much


def test_a_tenants_rate(port, tenants):
    """Of five at once, a second lets one pass; other tenants do not notice."""
    answers = [ask(port, "GET", "/v2", tenants["slow"]) for _ in range(5)]
    refused = [answered for answered in answers if answered[0] == 429]
    assert refused
    assert refused[0][1]["retry-after"] == "1"
    assert "per second" in json.loads(refused[0][2])["error"]
    codes = [refusal(port, x_api_key=tenants.keys["slow"])[0] for _ in range(5)]
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes
    assert ask(port, "GET", "/v2", tenants["alice"])[0] == NOBODY_IS_READY


def test_floods_of_headers(port, tenants):
    status, _, body = ask(port, "GET", "/v2", {**tenants["alice"], "x-long": "a" * 20_000})
    assert (status, json.loads(body)["error"]) == (431, "the headers are too many or too large")
    assert ask(port, "GET", "/v2", {f"x-{number}": "a" for number in range(70)})[0] == 400


def test_what_is_no_http_is_answered(port):
    """In HAProxy's own words: 2.6 takes no others for what it cannot parse."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"\x00\x01 nonsense\r\n\r\n")
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 400")


# --- browsers


def test_pages_of_a_named_origin_may_ask(port, tenants):
    preflight = {"origin": ORIGIN, "access-control-request-method": "POST"}
    status, answered, _ = ask(port, "OPTIONS", f"{MODEL}/infer", preflight)
    assert (status, answered["access-control-allow-origin"]) == (204, ORIGIN)
    assert "x-api-key" in answered["access-control-allow-headers"]
    for headers in (tenants["alice"], {}):  # a refusal can be read, too
        answered = ask(port, "GET", "/v2", {**headers, "origin": ORIGIN})[1]
        assert (answered["access-control-allow-origin"], answered["vary"]) == (ORIGIN, "Origin")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        f"{ORIGIN}.evil.example",
        "null",
        ORIGIN.upper(),
        f"{ORIGIN}, https://evil.example",
        f"https://evil.example, {ORIGIN}",
    ],
)
def test_pages_of_others_may_not(origin, port, tenants):
    preflight = {"origin": origin, "access-control-request-method": "POST"}
    assert ask(port, "OPTIONS", f"{MODEL}/infer", preflight)[0] == 401
    assert (
        "access-control-allow-origin"
        not in ask(port, "GET", "/v2", {**tenants["alice"], "origin": origin})[1]
    )


# --- the log


def test_the_log_names_the_tenant_and_tells_no_secret(port, tenants, log):
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    named = {**tenants["alice"], "x-request-id": "a-request.1", "traceparent": trace}
    assert (
        ask(port, "GET", f"{MODEL}/versions/3?secret=in-a-query", named)[1]["x-request-id"] == "a-request.1"
    )
    forged = {**tenants["alice"], "x-request-id": 'a","tenant":"root', "traceparent": "00-zz"}
    made = ask(port, "GET", '/v2/"quoted"', forged)[1]["x-request-id"]
    wait_until(lambda: made in log.read_text())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (line,) = (line for line in lines if line["request_id"] == "a-request.1")
    names = ("tenant", "model", "version", "endpoint", "kind", "status", "traceparent")
    assert [line[name] for name in names] == [
        "alice", "tiny", "3", "metadata", "http", 503, trace,
    ]  # fmt: skip
    (line,) = (line for line in lines if line["request_id"] == made)
    assert (line["tenant"], line["path"], line["traceparent"]) == ("alice", '/v2/"quoted"', "-")
    for secret in (*tenants.keys.values(), "in-a-query"):
        assert secret not in log.read_text()


@pytest.mark.parametrize(
    ("header", "good"), [("x-request-id", "ok"), ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")]
)
def test_nothing_is_smuggled_into_the_log(header, good, port, tenants, log):
    """A list is not its first part, nor do two headers pass by the first one."""
    forged = 'x","tenant":"root'
    key, path = tenants.keys["alice"], f"/v2/forged-{header}"
    for lines in (f"{header}: {good}, {forged}", f"{header}: {good}\r\n{header}: {forged}"):
        answer = answer_to(port, f"GET {path} HTTP/1.1\r\nx-api-key: {key}\r\n{lines}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"root" not in answer
    wait_until(lambda: log.read_text().count(json.dumps(path)[1:-1].replace("/", "\\/")) == 2)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["tenant"] for line in lines if line["path"] == path] == ["alice", "alice"]


# --- changes


def test_keys_are_taken_up_and_no_connection_is_lost(tmp_path, models):
    tenants = Tenants(tmp_path / "keys.txt", Grant("alice"))
    before = tenants.file.read_text()
    said = []
    with alone(tenants, models, tmp_path / "log") as gateway:
        kept = http.client.HTTPConnection("127.0.0.1", gateway.settings.port)
        more = Tenants(tmp_path / "more.txt", Grant("carol", rate=3, admin=True))
        assert ask(0, "GET", "/v2", more["carol"], connection=kept)[0] == 401
        local = kept.sock.getsockname()

        tenants.file.write_text(before + more.file.read_text())
        gateway.look(said.append)
        assert ask(0, "GET", "/v2/models/stats", more["carol"], connection=kept)[0] == NOBODY_IS_READY

        tenants.file.write_text("nonsense\n")
        gateway.look(said.append)
        assert "goes on with what it had" in said[-1]
        assert "line 1" in said[-1]
        assert ask(0, "GET", "/v2", more["carol"], connection=kept)[0] == NOBODY_IS_READY

        tenants.file.write_text(before)
        gateway.look(said.append)
        assert ask(0, "GET", "/v2", more["carol"], connection=kept)[0] == 401
        assert ask(0, "GET", "/v2", tenants["alice"], connection=kept)[0] == NOBODY_IS_READY
        assert kept.sock.getsockname() == local


def test_haproxy_is_started_again_with_what_is_true_by_then(tmp_path, models):
    tenants = Tenants(tmp_path / "keys.txt", Grant("alice"))
    with alone(tenants, models, tmp_path / "log") as gateway:
        more = Tenants(tmp_path / "more.txt", Grant("carol"))
        tenants.file.write_text(more.file.read_text())
        gateway.look(lambda _: None)
        gateway.process._process.kill()
        gateway.process._process.wait()
        assert gateway.trouble == "HAProxy ended and is started again"
        said = []
        wait_until(lambda: gateway.look(said.append) or gateway.restarts)
        assert said == ["HAProxy ended with status -9", "HAProxy is started again"]
        assert ask(gateway.settings.port, "GET", "/v2", more["carol"])[0] == NOBODY_IS_READY
        assert ask(gateway.settings.port, "GET", "/v2", tenants["alice"])[0] == 401
    assert not gateway.settings.folder.exists()


def test_the_client_of_triton_understands_a_refusal(port):
    client = triton_grpc.InferenceServerClient(f"127.0.0.1:{port}")
    with client, pytest.raises(InferenceServerException) as refused:
        client.is_server_live()
    assert refused.value.status() == "StatusCode.UNAUTHENTICATED"
