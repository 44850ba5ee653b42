"""Which tiers run: the static one always, those that need a cluster only where K8S_TESTS names them."""

from __future__ import annotations

import os

TIERS = set(filter(None, os.environ.get("K8S_TESTS", "").split(",")))
collect_ignore = [f"test_{tier}.py" for tier in ("server", "cluster") if tier not in TIERS]


def pytest_report_header() -> str:
    """Say it."""
    return f"tiers of tests on k8s/: {', '.join(['static', *sorted(TIERS)])} (K8S_TESTS)"
