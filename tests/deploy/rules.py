"""deploy/prometheus' rules, for promtool: each alert beside what makes it fire and what ends it."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
FILES = ("slo.yml", "alerts.yml")


@dataclass(frozen=True)
class Scenario:
    """A story of one alert, a sample a minute.

    series: values in promtool's notation. fires, resolved: minutes at which it does, and no more does.
    labels: of the alert, but for its severity. summary: as the annotation reads then; "" where its value
        depends on which group of rules promtool happens to evaluate first.
    """

    alert: str
    series: dict[str, str]
    fires: int
    resolved: int
    labels: dict[str, str]
    summary: str


def rules() -> dict[str, dict]:
    """The alerts, by name."""
    groups = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool_test(scenario: Scenario) -> dict:
    """What promtool is to check of it."""
    rule, name = rules()[scenario.alert], scenario.alert
    firing = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    expected = {
        "exp_labels": {**scenario.labels, **rule["labels"]},
        "exp_annotations": {**rule["annotations"], "summary": scenario.summary},
    }
    return {
        "interval": "1m",
        "name": scenario.alert,
        "input_series": [{"series": name, "values": values} for name, values in scenario.series.items()],
        "promql_expr_test": [
            {"eval_time": f"{scenario.fires}m", "expr": firing, "exp_samples": [{"labels": "{}", "value": 1}]}
        ],
        "alert_rule_test": [
            {"eval_time": f"{scenario.fires}m", "alertname": name, "exp_alerts": [expected]},
            {"eval_time": f"{scenario.resolved}m", "alertname": name, "exp_alerts": []},
        ][not scenario.summary :],
    }


def write_test(file: Path, tests: list[dict]) -> Path:
    """A file for `promtool test rules`, of the rules as they are deployed."""
    of_rules = [str(FOLDER / name) for name in FILES]
    file.write_text(yaml.safe_dump({"rule_files": of_rules, "evaluation_interval": "1m", "tests": tests}))
    return file


def hurried(text: str, seconds: dict[str, float]) -> str:
    """The same rules on other windows, `seconds` by window; no alert and no group of rules waits."""
    windows = r"(?<=[\[:])(\d+[mhd])(?=[\]:])"
    text = re.sub(windows, lambda found: f"{round(1000 * seconds[found[1]])}ms", text)
    text = re.sub(r"^( +)for: .*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^( +)interval: .*\n", "", text, flags=re.MULTILINE)
