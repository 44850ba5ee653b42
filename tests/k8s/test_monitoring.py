"""Dashboard, alerts and runbook: metrics exist, expressions are understood, alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from consumer.metrics import PREFIX, TABLE
from tests.k8s.manifests import ROOT

FOLDER = ROOT / "k8s/components/monitoring"
NO_PROMTOOL = "promtool is not on PATH: it comes with Prometheus"
COMPONENT = "app_kubernetes_io_component"
SCRAPED = {"namespace", "pod", "container", COMPONENT}
"""Labels that the PodMonitor adds; every metric has `group`."""
FOREIGN = {
    *("kube_pod_container_status_restarts_total", "kube_pod_status_ready"),
    *("kube_pod_container_info", "kube_pod_status_phase"),
}
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


class Case(NamedTuple):
    """Series ('a+bxn' is a, a+b, ... every minute, '_' nothing), and the alert's labels where it fires with them."""

    alert: str
    what: str
    fires: str
    series: dict[str, str]


OURS = 'namespace="n", group="g", pod="p"'
OTHER_POD = 'namespace="n", group="g", pod="q"'
BACKFILL = f'{OURS}, {COMPONENT}="backfill"'
CONSUMER = f'{OURS}, {COMPONENT}="consumer"'
PARTITION = 'topic="in", partition="0"'
LAG, AT = f"lag_records{{{OURS}, {PARTITION}}}", f"next_offset{{{OURS}, {PARTITION}}}"
LATER_LAG, LATER_AT = f"lag_records{{{OTHER_POD}, {PARTITION}}}", f"next_offset{{{OTHER_POD}, {PARTITION}}}"
OLD, STUCK, RESTARTS = "CheckpointConsumerOld", "CheckpointConsumerStuck", "CheckpointConsumerRestarts"
NOT_READY, ABSENT = "CheckpointConsumerNotReady", "CheckpointConsumerAbsent"
GROUP, STANDS = 'group="g", namespace="n"', f'group="g", namespace="n", {PARTITION}'


def ages(labels: str, young: str) -> dict[str, str]:
    """Sixty checkpoints a minute, so many of which are at most a minute old."""
    counts = {"60": young, "300": "0+60x60", "+Inf": "0+60x60"}
    return {f'record_age_seconds_bucket{{{labels}, le="{le}"}}': values for le, values in counts.items()}


def unready(pod: str, container: str = "consumer", phase: str = "Running") -> dict[str, str]:
    """What kube-state-metrics says of a pod that is not ready."""
    of = f'namespace="n", pod="{pod}"'
    phases = {name: f"{int(name == phase)}x60" for name in ("Running", "Succeeded", "Failed")}
    return {
        f'kube_pod_status_ready{{{of}, condition="true"}}': "0x60",
        f'kube_pod_container_info{{{of}, container="{container}"}}': "1x60",
        **{f'kube_pod_status_phase{{{of}, phase="{name}"}}': values for name, values in phases.items()},
    }


def restarting(pod: str) -> dict[str, str]:
    return {f'kube_pod_container_status_restarts_total{{namespace="n", pod="{pod}", container="consumer"}}': "0+1x60"}


POD = "checkpoint-consumer-6b7-x9"
CASES = [
    Case(OLD, "a minute and more", GROUP, ages(CONSUMER, "0+0x60")),
    Case(OLD, "younger", "", ages(CONSUMER, "0+60x60")),
    Case(OLD, "a backfill", "", ages(BACKFILL, "0+0x60")),
    Case(STUCK, "nothing is committed", STANDS, {LAG: "5x60", AT: "9x60"}),
    Case(STUCK, "never was anything committed", STANDS, {LAG: "5x60"}),
    Case(
        *(STUCK, "over two pods", STANDS),
        {LAG: "5x40 stale", AT: "9x40 stale", LATER_LAG: "_x41 5x20", LATER_AT: "_x41 9x20"},
    ),
    Case(STUCK, "it moves, without numbers", "", {LAG: "5x60", AT: "9+1x60"}),
    Case(STUCK, "nothing to do", "", {LAG: "5x50 0x10", AT: "9x60"}),
    Case(STUCK, "a pod that is new", "", {LAG: "_x45 5x15"}),
    Case(
        *(STUCK, "another pod since ten minutes", ""),
        {LAG: "5x45 stale", AT: "9+1x45 stale", LATER_LAG: "_x45 5x15", LATER_AT: "_x45 54x15"},
    ),
    Case(
        *("CheckpointConsumerRemedies", "one", f'{GROUP}, step="seek"'),
        {f'stuck_partitions_total{{{OURS}, step="seek"}}': "0x50 1x10"},
    ),
    Case("CheckpointConsumerRemedies", "long ago", "", {f'stuck_partitions_total{{{OURS}, step="seek"}}': "1x60"}),
    Case(
        *("CheckpointConsumerDeadLetters", "one in a hundred", GROUP),
        {
            f'dead_letters_total{{{OURS}, error="E"}}': "0+1x60",
            f'records_processed_total{{{OURS}, outcome="o"}}': "0+100x60",
        },
    ),
    Case(
        *("CheckpointConsumerDeadLetters", "long ago", ""),
        {
            f'dead_letters_total{{{OURS}, error="E"}}': "7x60",
            f'records_processed_total{{{OURS}, outcome="o"}}': "0+100x60",
        },
    ),
    Case(RESTARTS, "members", GROUP, {f'member_restarts_total{{{OURS}, reason="crash"}}': "0+1x60"}),
    Case(RESTARTS, "members, long ago", "", {f'member_restarts_total{{{OURS}, reason="crash"}}': "3x60"}),
    Case(RESTARTS, "containers", 'namespace="n"', restarting(POD)),
    Case(RESTARTS, "containers of others", "", restarting("mail-6b7-x9")),
    Case(NOT_READY, "a consumer", f'namespace="n", pod="{POD}"', unready(POD)),
    Case(NOT_READY, "with a prefix", f'namespace="n", pod="gas-{POD}"', unready(f"gas-{POD}")),
    Case(NOT_READY, "another container", "", unready(POD, "sidecar")),
    Case(NOT_READY, "another's consumer", "", unready("mail-6b7-x9")),
    Case(NOT_READY, "one that has ended", "", unready(POD, phase="Succeeded")),
    Case(NOT_READY, "one that was evicted", "", unready(POD, phase="Failed")),
    Case(ABSENT, "all gone", GROUP, {f"members{{{CONSUMER}}}": "2x20 stale"}),
    Case(ABSENT, "without the PodMonitor's label", GROUP, {f"members{{{OURS}}}": "2x20 stale"}),
    Case(ABSENT, "all there", "", {f"members{{{CONSUMER}}}": "2x60"}),
    Case(ABSENT, "a backfill that has ended", "", {f"members{{{BACKFILL}}}": "2x20 stale"}),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.what}")
def test_an_alert(case: Case, tmp_path: Path) -> None:
    [rule] = [rule for rule in rules() if rule["alert"] == case.alert]
    bare = {key: value for key, value in rule.items() if key != "annotations"}
    written(tmp_path, "rules.yaml", {"groups": [{"name": "g", "rules": [bare]}]})
    series = [
        {"series": name if name.startswith("kube_") else PREFIX + name, "values": values}
        for name, values in case.series.items()
    ]
    expected = (
        [{"exp_labels": dict(re.findall(r'(\w+)="([\w-]+)"', case.fires)) | rule["labels"]}] if case.fires else []
    )
    asked = {"eval_time": "55m", "alertname": case.alert, "exp_alerts": expected}
    test = {"interval": "1m", "input_series": series, "alert_rule_test": [asked]}
    promtool("test", "rules", written(tmp_path, "test.yaml", {"rule_files": ["rules.yaml"], "tests": [test]}))


def test_every_alert_is_tried_both_ways() -> None:
    tried = {(case.alert, bool(case.fires)) for case in CASES}
    assert tried == {(rule["alert"], fires) for rule in rules() for fires in (True, False)}


def test_a_backfill_is_told_by_the_label_that_it_has() -> None:
    monitor = yaml.safe_load((FOLDER / "podmonitor.yaml").read_text())
    job = yaml.safe_load((ROOT / "k8s/backfill/job.yaml").read_text())
    [label] = monitor["spec"]["podTargetLabels"]
    assert re.sub(r"\W", "_", label) == COMPONENT
    left_out = {value for rule in rules() for value in re.findall(rf'{COMPONENT}!="(\w+)"', rule["expr"])}
    assert left_out == {job["spec"]["template"]["metadata"]["labels"][label]}


def test_the_dashboard_keeps_namespaces_apart() -> None:
    for expression in (target["expr"] for panel in panels() for target in panel["targets"]):
        assert re.findall(rf"{PREFIX}\w+(?!\w|{{namespace=~\"\$namespace\", group=~\"\$group\")", expression) == []
        assert all("namespace" in by for by in re.findall(r"(?:by|on) \(([^)]*)\)", expression)), expression
