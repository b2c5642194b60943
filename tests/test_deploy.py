"""deploy/: every metric at the real /metrics, dashboard and alerts, the sweep, the check on a GPU machine."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import promql_parser
import pytest
import yaml

from perf.harness.generators.analyzer import find_analyzer
from server import Supervisor
from server.watching.status_page import StatusPage
from tests import compose
from tests.conftest import ROOT
from tests.launcher import get
from tests.ports import free_ports
from tests.processes import wait_until

DEPLOY = ROOT / "deploy"

# Not at /metrics without a GPU: docs/user_guide/metrics.md of triton-inference-server/server, GPU Metrics.
GPU_METRICS = {
    "nv_gpu_power_usage",
    "nv_gpu_power_limit",
    "nv_energy_consumption",
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
}


HAPROXY = """
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 1s
frontend http
  bind 127.0.0.1:{front}
  default_backend triton
backend triton
  server s1 127.0.0.1:{front} check
frontend metrics
  bind 127.0.0.1:{metrics}
  http-request use-service prometheus-exporter
"""


@pytest.fixture(scope="module")
def services():
    return compose.load(ROOT / "docker-compose.yml", {})["services"]


@pytest.fixture(scope="module")
def dashboard():
    return json.loads((DEPLOY / "grafana/dashboards/triton.json").read_text())


def expressions(dashboard):
    """Every PromQL expression of the dashboard and the alerts."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return found + [rule["expr"] for rule in rules()]


def rules():
    files = [yaml.safe_load((DEPLOY / "prometheus" / name).read_text()) for name in ("slo.yml", "alerts.yml")]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


# --- metrics, dashboards, alerts


def test_prometheus_scrapes_where_triton_answers(server, services):
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    targets = [
        target for job in jobs for static in job.get("static_configs", ()) for target in static["targets"]
    ]
    assert targets == ["triton:8002", "triton:8003"]
    assert {"8002", "8003"} <= {inside for *_, inside in compose.published_ports(services["triton"])}
    job = jobs[0]
    url = f"http://{server.metrics_url.split('/')[2]}{job['metrics_path']}"
    with urllib.request.urlopen(url) as response:
        assert "nv_inference_count{" in response.read().decode()


def test_every_recorded_series_is_recorded(dashboard):
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = set(re.findall(r"\bslo:[\w:]+", " ".join(expressions(dashboard))))
    assert len(used) > 5
    assert used <= recorded


def test_every_metric_of_ours_is_one_of_the_launchers(server, dashboard):
    supervisor = Supervisor(server, starting=False)
    with StatusPage(supervisor, "127.0.0.1", 0) as page:
        text = urllib.request.urlopen(f"{page.url}/metrics").read().decode()
    used = set(re.findall(r"\btriton_vision_\w+", " ".join(expressions(dashboard))))
    assert len(used) > 4
    assert used <= set(re.findall(r"^# TYPE (\w+)", text, re.M))
    assert 'triton_vision_preferred_batch_size{model="recognize_objects"} 4\n' in text
    assert 'triton_vision_max_queue_size{model="recognize_objects"} 256\n' in text


def test_every_metric_of_the_gateway_is_one_of_haproxys(dashboard, tmp_path):
    """As the exporter of an HAProxy with a server tells them; deploy/gateway has its own configuration."""
    if shutil.which("haproxy") is None:
        pytest.skip("no haproxy here: apt-get install haproxy")
    ports = free_ports("front", "metrics")
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.format(**ports))
    with subprocess.Popen(["haproxy", "-f", tmp_path / "haproxy.cfg"], stderr=subprocess.DEVNULL) as haproxy:
        try:
            wait_until(lambda: get(f"http://127.0.0.1:{ports['metrics']}/metrics")[0] == 200)
            text = get(f"http://127.0.0.1:{ports['metrics']}/metrics")[1]
        finally:
            haproxy.terminate()
    used = set(re.findall(r"\bhaproxy_\w+", " ".join(expressions(dashboard))))
    assert len(used) > 5
    assert used <= set(re.findall(r"^# TYPE (\w+)", text, re.M))
    assert 'state="DOWN"' in text


def test_every_metric_is_one_of_the_servers(server, dashboard):
    text = urllib.request.urlopen(server.metrics_url).read().decode()
    published = set(re.findall(r"^# TYPE (\w+)", text, re.M)) | GPU_METRICS
    variable = dashboard["templating"]["list"][0]["query"]["query"]
    used = set(re.findall(r"\bnv_\w+", " ".join([*expressions(dashboard), variable])))
    assert len(used) > 15
    assert used <= published
    labels = set(re.findall(r"(\w+)=\"", text)) | {"gpu_uuid", "job", "host", "tier", "proxy", "code"}
    named = " ".join(t["legendFormat"] for p in dashboard["panels"] for t in p.get("targets", []))
    assert set(re.findall(r"\{\{(\w+)\}\}", named)) <= labels


def test_every_expression_is_promql(dashboard):
    for expression in expressions(dashboard):
        promql_parser.parse(expression.replace("$__rate_interval", "1m").replace("$model", ".*"))
    with pytest.raises(ValueError, match=r".+"):
        promql_parser.parse("sum by (model (rate(nv_inference_count[5m]))")


def test_the_dashboard_says_how_well_requests_are_batched(dashboard):
    (panel,) = (panel for panel in dashboard["panels"] if panel["title"] == "Inferences per execution")
    count, executions = panel["targets"][0]["expr"].split(" / ")
    assert "rate(nv_inference_count{" in count
    assert "rate(nv_inference_exec_count{" in executions


def test_the_panels_do_not_overlap(dashboard):
    cells = [
        (x, y)
        for position in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_grafana_finds_prometheus_and_the_dashboard(services, dashboard):
    grafana, provisioning = services["grafana"], DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    asked = {
        target["datasource"]["uid"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    }
    assert asked == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/files.yml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in grafana["volumes"])
    assert mounts[provider["options"]["path"]] == "./deploy/grafana/dashboards"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/triton.json"


# --- the sweep


def sweep(url, out, *arguments, path, **settings):
    environment = {**os.environ, "URL": url, "OUT": str(out), **path, **settings}
    return subprocess.run(
        [str(DEPLOY / "sweep.sh"), *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def analyzer_on_path(tmp_path):
    analyzer = find_analyzer()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "perf_analyzer").symlink_to(analyzer.binary)
    return {**analyzer.environment, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}


@pytest.mark.slow
def test_the_sweep_measures_each_model_at_each_concurrency(server, tmp_path, analyzer_on_path):
    short = [
        "--measurement-mode=count_windows",
        "--measurement-request-count=5",
        "--stability-percentage=100000000",
    ]
    done = sweep(
        server.grpc_url,
        tmp_path,
        *short,
        path=analyzer_on_path,
        MODELS="mobilenet_v2 efficientnet_lite0",
        CONCURRENCIES="1 2",
    )
    assert done.returncode == 0, done.stderr
    assert "p95" in done.stdout
    for model in ("mobilenet_v2", "efficientnet_lite0"):
        (file,) = tmp_path.glob(f"sweep-*/{model}.csv")
        rows = file.read_text().splitlines()
        assert [row.split(",")[0] for row in rows] == ["Concurrency", "1", "2"]


def test_the_sweep_says_what_is_missing(server, tmp_path, analyzer_on_path):
    done = sweep(server.grpc_url, tmp_path / "x", path=analyzer_on_path)
    assert done.returncode == 1
    assert "mkdir -p perf/out" in done.stderr
    done = sweep(
        server.grpc_url, tmp_path, path=analyzer_on_path, MODELS="no_such_model", CONCURRENCIES="1 2"
    )
    assert done.returncode == 1
    assert "no_such_model at concurrency 1 failed" in done.stderr


# --- the check on a GPU machine


def gpu_check():
    spec = importlib.util.spec_from_file_location("gpu_check", DEPLOY / "gpu_check.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


def test_skipped_gpu_tests_prove_nothing(tmp_path, monkeypatch):
    check = gpu_check()
    monkeypatch.setattr(check, "OUT", tmp_path)
    case = '<testcase name="a"/>'
    for skipped, failures, passes in ((2, 0, False), (1, 0, True), (1, 1, False)):
        counts = f'tests="2" skipped="{skipped}" failures="{failures}" errors="0"'
        (tmp_path / "tests.xml").write_text(
            f"<testsuites><testsuite {counts}>{case}</testsuite></testsuites>"
        )
        assert (check.judge_tests("") == "") == passes


@pytest.mark.slow
def test_the_summary_names_every_step(tmp_path, monkeypatch):
    check = gpu_check()
    monkeypatch.setattr(check, "OUT", tmp_path)
    echo = check.Step("works", ["echo", "hello"])
    broken = check.Step("broken", ["sh", "-c", "echo the reason; exit 3"])
    results = [check.run(step, number) for number, step in enumerate((echo, broken))]
    text = check.summary(results, ["later"])
    assert re.search(r"ok +works", text)
    assert re.search(r"FAILED +broken .* exit status 3", text)
    assert "the reason" in text
    assert "not run later" in text
    assert text.strip().endswith("FAILED: broken")


def test_the_checklist_has_every_step():
    text = (ROOT / "docs/how-to/gpu-checklist.md").read_text()
    missing = [step.name for step in gpu_check().steps(container=True) if f"**{step.name}**" not in text]
    assert not missing
