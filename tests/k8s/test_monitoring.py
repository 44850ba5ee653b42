"""Dashboard, alerts and runbook: metrics exist, expressions are understood, alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from consumer.metrics import PREFIX, TABLE
from tests.k8s.manifests import ROOT

FOLDER = ROOT / "k8s/components/monitoring"
NO_PROMTOOL = "promtool is not on PATH: it comes with Prometheus"
SCRAPED = {"namespace", "pod", "container"}
"""Labels that the PodMonitor adds; every metric has `group`."""
FOREIGN = {"kube_pod_container_status_restarts_total", "kube_pod_status_ready", "kube_pod_container_info"}
"""Of kube-state-metrics."""
QUESTIONS = (
    "Lag and age",
    "Throughput",
    "Errors",
    "Rebalances",
    "Transactions",
    "Memory",
    "Where the time goes",
    "What runs",
)


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((FOLDER / "prometheusrule.yaml").read_text())["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "checkpoint-consumer.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """All of them, as Prometheus gets them."""
    yield from (rule["expr"] for rule in rules())
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m")
            yield re.sub(r"\$(namespace|group)", ".*", expression)


def wrong(expression: str) -> Iterator[str]:
    """Metrics that do not exist, labels that they do not have, counters without a rate and rates of gauges."""
    for name in re.findall(r"\b(\w+)(?=\{|\[|\)|$| )", expression):
        if not name.startswith((PREFIX, "kube_")):
            continue
        base = re.sub(r"_(bucket|sum|count)$", "", name.removeprefix(PREFIX))
        if name in FOREIGN:
            continue
        if base not in TABLE or bool(TABLE[base].buckets) == (base == name.removeprefix(PREFIX)):
            yield f"{name} does not exist"
        counts = name.endswith(("_total", "_bucket"))
        rated = re.search(rf"(rate|increase)\({name}\b", expression)
        if counts != bool(rated):
            yield f"{name} is {'a counter' if counts else 'a gauge'}"
    metrics = set(re.findall(rf"{PREFIX}(\w+)", expression))
    known = (
        SCRAPED
        | {"group", "le"}
        | {label for m in TABLE if any(n.startswith(m) for n in metrics) for label in TABLE[m].labels}
    )
    used = {label.strip() for by in re.findall(r"(?:by|on) \(([^)]*)\)", expression) for label in by.split(",")}
    used |= set(re.findall(r"(\w+)(?:=~|!=|=)\"", expression))
    if not set(re.findall(r"\bkube_\w+", expression)) and used - known:
        yield f"no label {used - known}"


def test_metrics_and_labels_exist() -> None:
    assert [f"{problem} in {expression}" for expression in expressions() for problem in wrong(expression)] == []


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        (f"sum({PREFIX}lag)", "does not exist"),
        (f"sum(rate({PREFIX}records_read_total[5m]))", "does not exist"),
        (f"sum({PREFIX}record_age_seconds)", "does not exist"),
        (f"sum(rate({PREFIX}members_bucket[5m]))", "does not exist"),
        (f"sum({PREFIX}retries_total)", "a counter"),
        (f"sum(rate({PREFIX}lag_records[5m]))", "a gauge"),
        (f"sum by (topics) ({PREFIX}lag_records)", "no label"),
        (f'sum by (group) (rate({PREFIX}transactions_total{{error="x"}}[5m]))', "no label"),
    ],
)
def test_a_wrong_expression_is_found(expression: str, problem: str) -> None:
    assert any(problem in found for found in wrong(expression)), list(wrong(expression))


def test_the_dashboard_reads_from_lag_to_time() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert [row.partition(":")[0].removesuffix(" and dead letters") for row in rows] == list(QUESTIONS)
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])


def test_the_dashboard_shows_every_metric() -> None:
    shown = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    assert [name for name in TABLE if PREFIX + name not in shown] == []


def test_every_alert_has_its_paragraph_and_every_paragraph_its_alert() -> None:
    text = (ROOT / "docs/runbook.md").read_text()
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"warning", "critical"}


def promtool(*args: str | Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip(NO_PROMTOOL)
    done = subprocess.run(["promtool", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def written(folder: Path, name: str, content: Any) -> Path:
    (folder / name).write_text(yaml.safe_dump(content))
    return folder / name


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    recorded = [{"record": f"test:{at}", "expr": expression} for at, expression in enumerate(expressions())]
    promtool("check", "rules", written(tmp_path, "rules.yaml", {"groups": [{"name": "test", "rules": recorded}]}))


OURS = 'namespace="n", group="g", pod="p"'
PARTITION = f'{OURS}, topic="in", partition="0"'
CASES: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    # The alert; series with which it fires, and with which it does not: 'a+bxn' is a, a+b, ... every minute.
    "CheckpointConsumerOld": (
        'group="g", namespace="n"',
        {
            f'record_age_seconds_bucket{{{OURS}, le="60"}}': "0+0x60",
            f'record_age_seconds_bucket{{{OURS}, le="+Inf"}}': "0+60x60",
            f'record_age_seconds_bucket{{{OURS}, le="300"}}': "0+60x60",
        },
        {
            f'record_age_seconds_bucket{{{OURS}, le="60"}}': "0+60x60",
            f'record_age_seconds_bucket{{{OURS}, le="+Inf"}}': "0+60x60",
        },
    ),
    "CheckpointConsumerStuck": (
        'group="g", namespace="n", topic="in", partition="0"',
        {f"lag_records{{{PARTITION}}}": "5x60", f"next_sequence_number{{{PARTITION}}}": "9x60"},
        {f"lag_records{{{PARTITION}}}": "5x60", f"next_sequence_number{{{PARTITION}}}": "9+1x60"},
    ),
    "CheckpointConsumerRemedies": (
        'group="g", namespace="n", step="seek"',
        {f'stuck_partitions_total{{{OURS}, step="seek"}}': "0x50 1x10"},
        {f'stuck_partitions_total{{{OURS}, step="seek"}}': "1x60"},
    ),
    "CheckpointConsumerDeadLetters": (
        'group="g", namespace="n"',
        {
            f'dead_letters_total{{{OURS}, error="E"}}': "0+1x60",
            f'records_processed_total{{{OURS}, outcome="o"}}': "0+100x60",
        },
        {
            f'dead_letters_total{{{OURS}, error="E"}}': "7x60",
            f'records_processed_total{{{OURS}, outcome="o"}}': "0+100x60",
        },
    ),
    "CheckpointConsumerRestarts": (
        'group="g", namespace="n"',
        {f'member_restarts_total{{{OURS}, reason="crash"}}': "0+1x60"},
        {f'member_restarts_total{{{OURS}, reason="crash"}}': "3x60"},
    ),
    "CheckpointConsumerNotReady": (
        'namespace="n", pod="p"',
        {
            'kube_pod_status_ready{namespace="n", pod="p", condition="true"}': "0x60",
            'kube_pod_container_info{namespace="n", pod="p", container="consumer"}': "1x60",
        },
        {
            'kube_pod_status_ready{namespace="n", pod="p", condition="true"}': "0x60",
            'kube_pod_container_info{namespace="n", pod="p", container="other"}': "1x60",
        },
    ),
    "CheckpointConsumerAbsent": (
        'group="g", namespace="n"',
        {f"members{{{OURS}}}": "2x20 stale"},
        {f"members{{{OURS}}}": "2x60"},
    ),
}


@pytest.mark.parametrize("fires", [True, False], ids=["fires", "is silent"])
@pytest.mark.parametrize("alert", CASES)
def test_an_alert(alert: str, fires: bool, tmp_path: Path) -> None:
    labels, loud, silent = CASES[alert]
    [rule] = [rule for rule in rules() if rule["alert"] == alert]
    bare = {key: value for key, value in rule.items() if key != "annotations"}
    written(tmp_path, "rules.yaml", {"groups": [{"name": "g", "rules": [bare]}]})
    series = [
        {"series": name if name.startswith("kube_") else PREFIX + name, "values": values}
        for name, values in (loud if fires else silent).items()
    ]
    expected = dict(re.findall(r'(\w+)="(\w+)"', labels)) | rule["labels"]
    asked = {"eval_time": "55m", "alertname": alert, "exp_alerts": [{"exp_labels": expected}] if fires else []}
    case = {"interval": "1m", "input_series": series, "alert_rule_test": [asked]}
    promtool("test", "rules", written(tmp_path, "test.yaml", {"rule_files": ["rules.yaml"], "tests": [case]}))


def test_every_alert_is_tried() -> None:
    assert list(CASES) == [rule["alert"] for rule in rules()]
