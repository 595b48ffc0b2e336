"""How many CPU threads this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

__all__ = ["cpu_quota", "usable_cpus"]


def usable_cpus() -> int:
    """Return the CPUs this process may use at once: its affinity, cut to the cgroup quota rounded up."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, count if quota is None else min(count, math.ceil(quota)))


def cpu_quota(*, membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the tightest CPU quota of this process's cgroup and those above it, in CPUs; None without one.

    Args:
        membership: the kernel's list of this process's cgroups, version 1 and 2 lines mixed.
        root: where the cgroup file systems are mounted.
    """
    quotas = []
    for line in _read(membership).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers:
            quotas += [_quota_v2(folder) for folder in _ancestry(root, path)]
        elif "cpu" in controllers.split(","):
            mounts = (root / controllers, root / "cpu")
            quotas += [_quota_v1(folder) for mount in mounts for folder in _ancestry(mount, path)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _ancestry(mount: Path, path: str) -> list[Path]:
    """Return the cgroup's folder and all above it; inside a container only the mount itself may exist."""
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    """Read cpu.max: "QUOTA PERIOD" in microseconds, or "max PERIOD"."""
    words = _read(folder / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    """Read cpu.cfs_quota_us and cpu.cfs_period_us; a quota of -1 is no limit."""
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    quota, period = quota.strip(), period.strip()
    if not (quota.isdigit() and period.isdigit() and int(quota) and int(period)):
        return None
    return int(quota) / int(period)


def _read(file: Path) -> str:
    """Return a kernel file's text; empty where it does not exist or may not be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
