"""Hypothesis for the core: random every time, with the blob that reproduces a failure.

``LOGFLUME_HYPOTHESIS=long`` looks for much longer.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("short", max_examples=200, deadline=None, print_blob=True)
settings.register_profile(
    "long",
    max_examples=10_000,
    stateful_step_count=150,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("LOGFLUME_HYPOTHESIS", "short"))
