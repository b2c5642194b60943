"""Every alert fires for what it is for, and resolves: `promtool test rules`; and each has its runbook."""

import re
import shutil
import subprocess

import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy.rules import FILES, FOLDER, Scenario, promtool_test, rules, write_test

ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
RUNBOOK = ROOT / "docs" / "how-to" / "observe.md"
LONG_STORY = 300  # minutes
CNN, TIER = {"model": "cnn"}, {"model": "cnn", "tier": "server"}
TRITON, LAUNCHER = {"job": "triton", "instance": "triton:8002"}, {"instance": "triton:8003"}
GATEWAY = {"job": "gateway", "instance": "gateway:8404"}
FAILED = 'nv_inference_request_failure{model="cnn",reason="%s"}'
ANSWERED, PENDING = (
    'nv_inference_request_success{model="cnn"}',
    'nv_inference_pending_request_count{model="cnn"}',
)
PREFERRED, LONGEST = (
    f'triton_vision_{name}{{model="cnn"}}' for name in ("preferred_batch_size", "max_queue_size")
)
SERVER_2 = 'haproxy_server_status{proxy="triton_http",server="s2",state="DOWN",instance="gateway:8404"}'
SCENARIOS = (
    Scenario(
        "ErrorBudgetBurnsFast",
        {ANSWERED: "0+600x300", FAILED % "REJECTED": "0+60x60 3600x240"},
        59, 120, TIER, "server cnn: 9.091% of the requests fail, and the error budget with them",
    ),
    Scenario(
        "ErrorBudgetBurnsFast",
        {
            'haproxy_frontend_http_responses_total{proxy="http",code="2xx"}': "0+600x300",
            'haproxy_frontend_http_responses_total{proxy="metrics",code="2xx"}': "0+9999x300",
            'haproxy_frontend_http_responses_total{proxy="http",code="5xx"}': "0+60x60 3600x240",
        },
        59, 120, {"tier": "gateway"}, "gateway : 9.091% of the requests fail, and the error budget with them",
    ),
    Scenario(  # after hours without a failure, so that it is the hour that tells
        "ErrorBudgetBurnsFast",
        {ANSWERED: "0+600x480", FAILED % "REJECTED": "0x400 0+60x20 1200x60"},
        420, 460, TIER, "",
    ),
    Scenario(  # too few for an hour to tell, for hours
        "ErrorBudgetBurnsFast",
        {ANSWERED: "0+990x250", FAILED % "REJECTED": "0+10x150 1500x100"},
        145, 200, TIER, "server cnn: 1% of the requests fail, and the error budget with them",
    ),
    Scenario(
        "ErrorBudgetBurnsSlowly",
        {ANSWERED: "0+998x1300", FAILED % "BACKEND": "0+2x700 1400x600"},
        600, 1200, TIER, "server cnn: at this rate the error budget of 30 days will not last",
    ),
    Scenario(
        "TritonDown", {'up{job="triton",instance="triton:8002"}': "1x5 0x5 1x10"},
        8, 12, TRITON, "Triton does not answer at triton:8002",
    ),
    Scenario(
        "LauncherDown", {'up{job="launcher",instance="triton:8003"}': "1x5 0x5 1x10"},
        9, 12, {"job": "launcher", **LAUNCHER},
        "The launcher does not answer at triton:8003; nobody would replace what dies",
    ),
    Scenario(
        "ModelsAreMissing", {'triton_vision_ready{instance="triton:8003"}': "1x5 0x5 1x10"},
        8, 12, LAUNCHER, "Not every model is served at triton:8003",
    ),
    Scenario(
        "ProcessesDie",
        {'triton_vision_model_restarts_total{model="cnn",instance="triton:8003"}': "0x5 1 2 3x30"},
        10, 30, {**CNN, **LAUNCHER}, "cnn at triton:8003: processes die and are replaced, more than once",
    ),
    Scenario(
        "TritonRestarts", {'triton_vision_tritonserver_restarts_total{instance="triton:8003"}': "0x5 1 2x30"},
        10, 30, LAUNCHER, "tritonserver at triton:8003 ended and was started again, more than once",
    ),
    Scenario(
        "LatencyIsHigh",
        {'nv_inference_request_summary_us{model="cnn",quantile="0.99"}': "2500000x20 90000x5"},
        15, 23, CNN, "cnn: one request of a hundred takes 2.5s or longer",
    ),
    Scenario(
        "TritonQueueIsLong",
        {
            'nv_inference_queue_duration_us{model="cnn"}': "0+900x30 27000x30",
            'nv_inference_request_duration_us{model="cnn"}': "0+1000x60",
        },
        20, 45, CNN, "Requests to cnn spend more than 80 % of their time waiting",
    ),
    Scenario(
        "QueueGrows", {PENDING: "1+5x30 0x30"},
        25, 45, CNN, "cnn: more requests come than are answered; 50 more wait than ten minutes ago",
    ),
    Scenario(
        "QueueIsNearlyFull", {PENDING: "250x10 3x10", LONGEST: "256x20"},
        5, 15, CNN, "The queue of cnn is 97.66% full; then requests are refused",
    ),
    Scenario(
        "BatchesStaySmall",
        {
            'nv_inference_count{model="cnn"}': "0+60x60",
            'nv_inference_exec_count{model="cnn"}': "0+60x60",
            PENDING: "10x30 0x30",
            PREFERRED: "4x60",
        },
        25, 50, CNN, "cnn: 1 inferences per execution, while a preferred batch waits",
    ),
    Scenario(
        "GpuMemoryIsFull",
        {
            'nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"}': "99x10 50x10",
            'nv_gpu_memory_total_bytes{gpu_uuid="GPU-1"}': "100x20",
        },
        8, 15, {"gpu_uuid": "GPU-1"}, "GPU GPU-1 has less than 5 % of its memory left",
    ),
    Scenario(
        "GatewayDown", {'up{job="gateway",instance="gateway:8404"}': "1x5 0x5 1x10"},
        8, 12, GATEWAY,
        "The gateway at gateway:8404, which was there within the last hour, does not answer",
    ),
    Scenario(  # its name is not found any more, as of a stopped container; an hour later that is forgotten
        "GatewayDown", {'up{job="gateway",instance="gateway:8404"}': "1x5 _x120"},
        15, 80, GATEWAY,
        "The gateway at gateway:8404, which was there within the last hour, does not answer",
    ),
    Scenario(
        "GatewayHasNoServer",
        {'haproxy_backend_active_servers{proxy="triton_http",instance="gateway:8404"}': "2x5 0x5 1x10"},
        8, 12, {"proxy": "triton_http", "instance": "gateway:8404"},
        "triton_http: the gateway at gateway:8404 has no server to send requests to",
    ),
    Scenario(
        "GatewayServerDown",
        {SERVER_2: "0x5 1x5 0x9"},
        9, 12, {"proxy": "triton_http", "server": "s2", "state": "DOWN", "instance": "gateway:8404"},
        "triton_http/s2: the gateway at gateway:8404 does without it",
    ),
)  # fmt: skip
TABLES = ("sequences", "sources", "tenants")  # of the gateway, as backends without servers
# What must not wake anybody: at each of these minutes no alert fires.
QUIET = {
    "clients send what is wrong, or give up": {
        ANSWERED: "0+10x140",
        FAILED % "OTHER": "0+600x140",
        FAILED % "CANCELED": "0+600x140",
    },
    "of two requests an hour one fails": {
        ANSWERED: "0+1x10 10x140",
        FAILED % "BACKEND": "0x60 1x140",
    },
    "a gateway keeps its tables": {
        f'haproxy_backend_active_servers{{proxy="{table}"}}': "0x140" for table in TABLES
    },
    "nobody asks": {
        ANSWERED: "7x140",
        FAILED % "REJECTED": "9x140",
        'nv_inference_request_summary_us{model="cnn",quantile="0.99"}': "NaN NaN NaN",
        PENDING: "0x140",
        PREFERRED: "4x140",
        LONGEST: "256x140",
    },
    "there is no gateway, nor a GPU": {'up{job="triton",instance="triton:8002"}': "1x140"},
}


def tool(name, package):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here: apt-get install {package}")
    return found


def promtool(*arguments):
    return subprocess.run(
        [tool("promtool", "prometheus"), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_every_alert_has_a_scenario():
    assert {scenario.alert for scenario in SCENARIOS} == set(rules())


def marked(scenario):
    """With its name, and as slow where promtool has hours to play."""
    return pytest.param(
        scenario, id=scenario.alert, marks=pytest.mark.slow if scenario.resolved > LONG_STORY else ()
    )


@pytest.mark.parametrize("scenario", [marked(scenario) for scenario in SCENARIOS])
def test_it_fires_and_resolves(tmp_path, scenario):
    done = promtool("test", "rules", write_test(tmp_path / "test.yml", [promtool_test(scenario)]))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("series", QUIET.values(), ids=QUIET)
def test_nothing_fires_where(tmp_path, series):
    minutes = (35, 70, 130)
    none = [
        {"eval_time": f"{at}m", "alertname": alert, "exp_alerts": []} for alert in rules() for at in minutes
    ]
    story = {"interval": "1m", "input_series": [{"series": s, "values": v} for s, v in series.items()]}
    done = promtool("test", "rules", write_test(tmp_path / "test.yml", [{**story, "alert_rule_test": none}]))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rule_that_does_not_fire_fails_its_scenario(tmp_path):
    dull = {**promtool_test(SCENARIOS[3]), "input_series": []}
    assert promtool("test", "rules", write_test(tmp_path / "test.yml", [dull])).returncode == 1


def test_promtool_finds_no_fault():
    for what, file in (
        *(("rules", name) for name in FILES),
        ("config", "prometheus.yml"),
        ("config", "local.yml"),
    ):
        done = promtool("check", what, FOLDER / file)
        assert done.returncode == 0, done.stdout + done.stderr


def test_amtool_finds_no_fault():
    amtool = tool("amtool", "prometheus-alertmanager")
    done = subprocess.run([amtool, "check-config", ALERTMANAGER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_page_and_a_ticket_take_different_ways():
    route = yaml.safe_load(ALERTMANAGER.read_text())["route"]
    assert {rule["labels"]["severity"] for rule in rules().values()} == {"page", "ticket"}
    ((asked,), receiver) = route["routes"][0]["matchers"], route["routes"][0]["receiver"]
    assert (asked, receiver, route["receiver"]) == ('severity="page"', "page", "ticket")


def test_silenced_alerts_exist():
    named = re.findall(r"alertname=~?\"([^\"]+)\"", ALERTMANAGER.read_text())
    assert {name for names in named for name in names.split("|")} <= set(rules())


@pytest.mark.parametrize("alert", rules())
def test_it_says_what_to_do(alert):
    """Each alert has a summary, an action, and an entry of that name in the runbook."""
    rule = rules()[alert]
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["action"]
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert ROOT / file == RUNBOOK
    assert anchor == alert.lower()
    assert re.search(rf"^### {alert}$", RUNBOOK.read_text(), re.MULTILINE)
