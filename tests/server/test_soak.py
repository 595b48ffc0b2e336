"""Minutes of mixed work leave the server as it was; the long form is `python -m benchmarks.server_soak`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.server_soak import soak

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]


def test_memory_and_throughput_stay(tmp_path: Path) -> None:
    result = soak(float(os.environ.get("SOAK_MINUTES", "5")), tmp_path)
    assert result["rss_change"] < 0.10, result
    # Other work on the machine moves the rate; what decays does so by far more.
    assert result["rate_change"] > -0.4, result
