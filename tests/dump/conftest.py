"""Hypothesis for this project: no deadlines, few examples unless asked for more."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# tests use tmp_path through a fixture of the whole function, on purpose: each example makes its
# own folder below it
_COMMON = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.register_profile("ci", _COMMON, max_examples=30)
settings.register_profile("thorough", _COMMON, max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
