"""Alert rules and dashboard: they speak of figures that there are, and fire when they should."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app.config import ROOT
from app.metrics import exposition
from app.models import Level, Status
from app.services.jobs import workers
from tests.services.health.test_figures import export_to, keep, plant, prove

RULES = ROOT / "docs/prometheus/rules.yml"
RULE_TESTS = [ROOT / "tests/docs" / f"rules{over}_test.yml" for over in ("", "_over_days")]
DASHBOARD = ROOT / "docs/grafana/backstop.json"
PAGE = ROOT / "docs/reference/monitoring.md"
HOW_TO = ROOT / "docs/how-to/monitor-with-prometheus.md"


@pytest.fixture
def exported(context: None) -> str:
    """The figures of a panel of which all is known."""
    prove(plant(1), 2, Level.RESTORED)
    plant(3, status=Status.FAILED)
    keep("nas", 1)
    export_to("nas")
    workers.beat()
    return exposition()[0].decode()


def named_in(path: Path) -> set[str]:
    words = r"`(backstop_[a-z_]+)`" if path == PAGE else r"\bbackstop_[a-z_]+"
    return set(re.findall(words, path.read_text()))


@pytest.mark.parametrize("path", [RULES, DASHBOARD, PAGE], ids=lambda path: path.name)
def test_every_figure_that_is_named_is_exported(exported: str, path: Path):
    samples = set(re.findall(r"^(backstop_[a-z_]+)", exported, re.MULTILINE))
    assert len(samples) == 23
    assert named_in(path) - samples == set()


def test_every_figure_is_described_and_drawn(exported: str):
    samples = set(re.findall(r"^(backstop_[a-z_]+)", exported, re.MULTILINE))
    assert samples - named_in(PAGE) == set()
    assert samples - named_in(DASHBOARD) == set()


def test_every_rule_is_described_and_tested():
    alerts = re.findall(r"alert: (\w+)", RULES.read_text())
    assert len(alerts) == len(set(alerts)) > 5
    tests = "".join(path.read_text() for path in RULE_TESTS)
    for alert in alerts:
        assert f"`{alert}`" in HOW_TO.read_text()
        assert re.search(rf"alertname: {alert}\n +exp_alerts:(?! \[\])", tests), alert


def test_the_dashboard_has_its_parts():
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    assert all(
        target["datasource"]["uid"] == "${datasource}"
        for panel in dashboard["panels"]
        for target in panel["targets"]
    )


# promtool


def promtool(*arguments: str, given: str = "") -> str:
    """Let it judge; without it a test is skipped, but not in CI."""
    program = shutil.which("promtool")
    if program is None:
        complaint = "promtool is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"{complaint}, and CI must have it")
        pytest.skip(complaint)
    judged = subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, check=False
    )
    told = judged.stdout + judged.stderr
    assert judged.returncode == 0, told
    return told


def test_the_rules_can_be_read_and_fire_when_they_should():
    promtool("check", "rules", str(RULES))
    promtool("test", "rules", *map(str, RULE_TESTS))


def test_the_figures_follow_the_conventions_of_prometheus(app: Flask, exported: str):
    assert promtool("check", "metrics", given=exported) == ""


def test_every_expression_of_the_dashboard_can_be_read(tmp_path: Path):
    dashboard = json.loads(DASHBOARD.read_text())
    expressions = [each["expr"] for panel in dashboard["panels"] for each in panel["targets"]]
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(expressions)]
    path = tmp_path / "rules.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", str(path))
