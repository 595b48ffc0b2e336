from __future__ import annotations

import os
from pathlib import Path

import pytest

from gnomonic.inference import threads
from gnomonic.inference.threads import cpu_quota, usable_cpus


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")


def _quota(tmp_path: Path, membership: str, files: dict[str, str]) -> float | None:
    _write(tmp_path, {"membership": membership, **{f"fs/{name}": text for name, text in files.items()}})
    return cpu_quota(membership=tmp_path / "membership", root=tmp_path / "fs")


def test_version_2_quota_is_read(tmp_path: Path) -> None:
    assert _quota(tmp_path, "0::/app\n", {"app/cpu.max": "150000 100000\n"}) == 1.5


def test_version_2_without_a_limit_is_none(tmp_path: Path) -> None:
    assert _quota(tmp_path, "0::/app\n", {"app/cpu.max": "max 100000\n"}) is None


def test_the_tightest_ancestor_counts(tmp_path: Path) -> None:
    files = {"a/cpu.max": "50000 100000\n", "a/b/cpu.max": "300000 100000\n", "a/b/c/cpu.max": "max 100000\n"}
    assert _quota(tmp_path, "0::/a/b/c\n", files) == 0.5


def test_inside_a_container_the_mount_itself_is_read(tmp_path: Path) -> None:
    assert _quota(tmp_path, "0::/../../docker/abc\n", {"cpu.max": "200000 100000\n"}) == 2.0


def test_version_1_quota_is_read(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n",
        "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
    }
    membership = "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n"
    assert _quota(tmp_path, membership, files) == 2.5


def test_version_1_without_a_limit_is_none(tmp_path: Path) -> None:
    files = {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}
    assert _quota(tmp_path, "4:cpu:/\n", files) is None


@pytest.mark.parametrize("text", ["", "max", "a b", "0 100000", "100000 0", "-1 100000"])
def test_unreadable_quotas_are_no_limit(tmp_path: Path, text: str) -> None:
    assert _quota(tmp_path, "0::/\ngarbage\n", {"cpu.max": text}) is None


def test_a_system_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(membership=tmp_path / "absent", root=tmp_path) is None


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (1.5, 2), (3.0, 3), (64.0, 8)])
def test_the_quota_is_rounded_up_and_bounded_by_the_affinity(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert usable_cpus() == expected


def test_this_process_has_a_cpu() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)
