"""TensorFlow Serving's REST interface, on the real tritonserver: each form, each error."""

import base64
import gzip
import json
import shlex
import socket
import subprocess

import pytest
import requests

HALF = "/v1/models/half_plus_two"


def post(served, path, body, **options):
    data = body if isinstance(body, (bytes, str)) else json.dumps(body)
    answer = requests.post(served.rest + path, data=data, timeout=60, **options)
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, answer.json()


def get(served, path):
    answer = requests.get(served.rest + path, timeout=60)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("method", "path", "body", "answer"),
    [
        ("POST", f"{HALF}:predict", {"instances": [1.0, 2.0, 5.0]}, {"predictions": [3.5, 4.0, 5.5]}),
        (
            "POST",
            f"{HALF}/versions/1:predict",
            {"instances": [1.0, 2.0, 5.0]},
            {"predictions": [2.5, 3.0, 4.5]},
        ),
        ("POST", f"{HALF}/labels/stable:predict", {"inputs": [1, 2]}, {"outputs": [2.5, 3.0]}),
        ("POST", f"{HALF}/labels/canary:predict", {"inputs": {"x": [1]}}, {"outputs": [3.5]}),
        (
            "POST",
            f"{HALF}/versions/1:regress",
            {"examples": [{"x": 2.0}, {"x": [3.0]}]},
            {"results": [3.0, 3.5]},
        ),
        (
            "POST",
            "/v1/models/half:predict",
            {"signature_name": "plus_two", "instances": [{"x": 1.0}]},
            {"predictions": [3.5]},
        ),
        (
            "POST",
            "/v1/models/pair:classify",
            {"context": {"name": "n"}, "examples": [{"numbers": [0.1, 0.2]}]},
            {"results": [[["first", 0.1], ["second: with a colon", 0.2], ["sum", 0.3]]]},
        ),
        ("POST", "/v1/models/half:predict", '{"instances": [NaN, Infinity, -Infinity]}', None),
        ("GET", f"{HALF}/versions/1", None, None),
        ("GET", f"{HALF}/labels/stable/metadata", None, None),
        ("GET", HALF, None, None),
    ],
)
def test_curl_with_each_form(served, method, path, body, answer):
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "-X", method, served.rest + path]
    if body is not None:
        command += ["-d", body if isinstance(body, str) else json.dumps(body)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, shlex.join(command) + done.stdout + done.stderr
    told = json.loads(done.stdout)
    if answer is not None:
        assert told == answer


def test_numbers_that_are_none(served):
    answer = requests.post(
        f"{served.rest}/v1/models/half:predict",
        data='{"instances": [NaN, Infinity, -Infinity]}',
        timeout=60,
    )
    assert answer.text == '{"predictions": [NaN, Infinity, -Infinity]}'
    told = {"error": "JSON Parse error: Number too big to be stored in double."}
    assert post(served, "/v1/models/half:predict", b'{"instances": [1e400]}') == (400, told)


def test_requests_as_in_the_tutorial(served):
    """As in TensorFlow's "Train and serve a model": headers, json.dumps, and the predictions of the text."""
    data = json.dumps({"signature_name": "serving_default", "instances": [1.0, 2.0]})
    headers = {"content-type": "application/json"}
    answer = requests.post(f"{served.rest}{HALF}/versions/1:predict", data=data, headers=headers, timeout=60)
    assert json.loads(answer.text)["predictions"] == [2.5, 3.0]


def test_rows_of_objects(served):
    rows = [{"numbers": [1, 2.5], "name": "a"}, {"numbers": [3, 4], "name": {"b64": "/w=="}}]
    rows = [{**row, "name": [row["name"]]} for row in rows]
    status, told = post(served, "/v1/models/pair:predict", {"instances": rows})
    assert status == 200, told
    assert told["predictions"] == [
        {"scores": [1, 2.5, 3.5], "name_bytes": [{"b64": "YQ=="}]},
        {"scores": [3, 4, 7], "name_bytes": [{"b64": "/w=="}]},
    ]


def test_columns(served):
    inputs = {"numbers": [[1, 2], [3, 4]], "name": [["a"], ["b"]]}
    status, told = post(served, "/v1/models/pair:predict", {"inputs": inputs})
    assert status == 200, told
    assert told["outputs"]["scores"] == [[1, 2, 3], [3, 4, 7]]
    assert told["outputs"]["name_bytes"] == [[{"b64": "YQ=="}], [{"b64": "Yg=="}]]


def test_status_and_metadata(served):
    status, told = get(served, HALF)
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert (status, told) == (
        200,
        {"model_version_status": [{"version": version, **available} for version in ("1", "2")]},
    )
    assert get(served, f"{HALF}/labels/stable")[1]["model_version_status"][0]["version"] == "1"
    status, told = get(served, "/v1/models/pair/metadata")
    assert told["model_spec"] == {"name": "pair", "signature_name": "", "version": "1"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["numbers"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}],
            "unknown_rank": False,
        },
        "name": "numbers:0",
    }


def test_gzip(served):
    body = gzip.compress(b'{"instances": [2]}')
    options = {"headers": {"Content-Encoding": "gzip"}}
    assert post(served, "/v1/models/half:predict", body, **options) == (200, {"predictions": [1.0]})
    status, told = post(served, "/v1/models/half:predict", b"{}", **options)
    assert (status, "not gzip" in told["error"]) == (400, True)
    bomb = gzip.compress(bytes(9 * 2**20))
    assert post(served, "/v1/models/half:predict", bomb, **options)[0] == 413


def test_a_photograph_in_base64(served):
    photo = bytes(range(256)) * 100
    row = {"numbers": [0, 0], "name": [{"b64": base64.b64encode(photo).decode()}]}
    _, told = post(served, "/v1/models/pair:predict", {"instances": [row]})
    assert base64.b64decode(told["predictions"][0]["name_bytes"][0]["b64"]) == photo


REFUSED = [
    ("", 400, "The document is empty"),
    ("{", 400, "JSON Parse error"),
    ("[1]", 400, "Is not object"),
    ("\xff".encode("latin-1"), 400, "JSON Parse error"),
    ("[" * 10**6, 400, "nested too deep"),
    ({}, 400, "Missing 'inputs' or 'instances' key"),
    ({"instances": [1], "inputs": [1]}, 400, "expecting only one of"),
    ({"instances": 1}, 400, "to be an list/array"),
    ({"instances": []}, 400, "No values in 'instances' array"),
    ({"instances": [1], "signature_name": 3}, 400, "'signature_name' key must be a string"),
    ({"instances": [1], "signature_name": "none"}, 400, 'Serving signature name: "none" not found'),
    ({"instances": ["a"]}, 400, "Type: String is not of expected type: float"),
    ({"instances": [None]}, 400, "Type: Null is not of expected type: float"),
    ({"instances": [True]}, 400, "is not of expected type: float"),
    ({"instances": [{"b64": "AA=="}]}, 400, "Type: Object is not of expected type: float"),
    ({"instances": [[1], 2]}, 400, "incorrect level"),
    ({"instances": [[1], [2, 3]]}, 400, "Encountered list at unexpected size: 2"),
    ({"instances": [{"z": 1}]}, 400, "keys must be equal to: x"),
    ({"instances": [{"x": 1}, 2]}, 400, "Expecting object but got list at item 1"),
    ({"instances": [1, {"x": 1}]}, 400, "Expecting value/list but got object at item 1"),
    ({"inputs": {"z": 1}}, 400, "Missing named input: x"),
    ('{"instances": [1%s]}' % ("0" * 4000), 400, "Number too big"),
    ('{"instances": [1%s]}' % ("0" * 5000), 400, "JSON Parse error"),
    ({"inputs": 1}, 400, "x"),
]


@pytest.mark.parametrize(("body", "status", "words"), REFUSED, ids=lambda one: str(one)[:40])
def test_what_cannot_be_answered(served, body, status, words):
    found, told = post(served, f"{HALF}:predict", body)
    assert (found, words in told["error"]) == (status, True), told


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [[1, 2]]}, "instances is a plain list, but expecting list of objects"),
        ({"inputs": [[1, 2]]}, "inputs is a plain value/list"),
        ({"inputs": {"numbers": [[1, 2]], "name": [[1]]}}, "is not of expected type: string"),
        ({"inputs": {"numbers": [[1, 2]], "name": [[{"b64": "*"}]]}}, "Unable to base64 decode"),
        ({"inputs": {"numbers": [[1, 2]], "name": [[{"b32": "A"}]]}}, "for base64 data"),
        ('{"inputs": {"numbers": [[1, 2]], "name": [["\\ud800"]]}}', "surrogate"),
    ],
)
def test_what_two_inputs_do_not_take(served, body, words):
    found, told = post(served, "/v1/models/pair:predict", body)
    assert (found, words in told["error"]) == (400, True), told


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "key 'examples' is expected and was not found"),
        ({"examples": 1}, "to be an list/array"),
        ({"examples": []}, "is an empty array"),
        ({"examples": [1]}, "Example must be JSON object"),
        ({"examples": [1] * (2**17 + 1)}, "more than 131072 examples"),
        ({"examples": [{"x": None}]}, "Unexpected element type in feature: x"),
        ({"examples": [{"x": [1, "a"]}]}, "Unexpected element type in feature: x"),
        ({"examples": [{"x": 2**64}]}, "out of range"),
        ({"examples": [{"x": "a"}]}, "Data types don't match"),
        ({"examples": [{"\ud800": 1}]}, "surrogate"),
    ],
)
def test_examples_that_do_not_fit(served, body, words):
    found, told = post(served, f"{HALF}:regress", body)
    assert (found, words in told["error"]) == (400, True), told


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/", 404, "Not Found"),
        ("GET", "/v1/nothing", 400, "Malformed request: GET /v1/nothing"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("GET", f"{HALF}:predict", 400, "Malformed request"),
        ("PUT", f"{HALF}:predict", 400, "Malformed request: PUT"),
        ("POST", HALF, 400, "Malformed request: POST"),
        ("POST", f"{HALF}:explain", 400, "Malformed request"),
        ("POST", "/v1/models/nobody:predict", 404, "Servable not found for request: Latest(nobody)"),
        ("POST", f"{HALF}/versions/9:predict", 404, "Specific(half_plus_two, 9)"),
        ("POST", f"{HALF}/versions/{2**63}:predict", 400, "Failed to convert version"),
        ("POST", f"{HALF}/labels/none:predict", 400, "Unrecognized servable version label: none"),
        ("POST", "/v1/models/%FF:predict", 400, "Failed to decode model name"),
        ("GET", "/v1/models/nobody", 404, "Could not find any versions of model nobody"),
        ("GET", f"{HALF}/versions/9", 404, "Could not find version 9 of model half_plus_two"),
        ("GET", "/v1/models/nobody/metadata", 404, "Servable not found"),
        ("OPTIONS", HALF, 400, "Origin header is missing in CORS preflight"),
    ],
)
def test_paths_that_lead_nowhere(served, method, path, status, words):
    data = '{"instances": [1]}' if method == "POST" else None
    answer = requests.request(method, served.rest + path, data=data, timeout=60)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text


def test_a_name_in_percent_signs(served):
    assert get(served, "/v1/models/%68alf")[0] == 200


def test_a_client_that_closes_its_side_is_answered(served):
    host, port = served.rest.removeprefix("http://").rsplit(":", 1)
    head = f"POST {HALF}/versions/1:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n"
    for sent, answers in ((2 * (head + '{"instances":[1]}'), 2), (head + "{", 0)):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(sent.encode())
            connection.shutdown(socket.SHUT_WR)
            told = connection.makefile("rb").read()
        assert told.count(b'{"predictions": [2.5]}') == answers


def test_a_body_above_the_limit(served):
    for body in (bytes(9 * 2**20), iter([bytes(2**20)] * 9)):  # with its length, and in chunks
        try:
            answer = requests.post(f"{served.rest}{HALF}:predict", data=body, timeout=60)
        except requests.ConnectionError:
            continue  # it hung up before all was sent, which some clients tell so
        assert answer.status_code == 413
        assert "the limit" in answer.json()["error"]
    assert get(served, HALF)[0] == 200
