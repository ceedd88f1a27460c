"""Whether queries name metrics and labels that there are."""

from __future__ import annotations

from replicator_kuma.reports.http.metric_families import FAMILIES
from tests.support.prometheus import grouped, selectors

TARGET = {"job", "instance"}
"""labels that Prometheus gives each series"""
LABELS = {
    family.name: {f"exported_{label}" if label in TARGET else label for label in family.labels}
    for family in FAMILIES
}
"""of each metric, as Prometheus stores them: a metric's own `job` gives way to the target's"""


def known_labels(expr: str) -> set[str]:
    """The labels that a query's answer may have; fails where it names what there is not."""
    found = set(TARGET)
    for name, asked in selectors(expr):
        assert name in LABELS, name
        assert asked <= LABELS[name] | TARGET, (name, asked)
        found |= LABELS[name]
    assert grouped(expr) <= found, expr
    return found
