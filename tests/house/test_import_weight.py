"""Importing Gnomonic is cheap, silent and touches nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.house.sources import PACKAGE, modules

IMPORT_MS = 150
HEAVY = {
    "torch",
    "onnx",
    "onnxruntime",
    "pyarrow",
    "transformers",
    "tokenizers",
    "huggingface_hub",
    "PIL",
    "httpx",
}

_MEASURE = """
import json, sys, time
before = time.process_time()
import gnomonic
print(json.dumps({"ms": 1000 * (time.process_time() - before), "modules": sorted(sys.modules)}))
"""

# An audit hook sees every socket and every file opened for writing, whoever opens it.
_IMPORT_ALL = """
import importlib, json, os, sys
touched = []
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        touched.append([event, str(args[-1])])
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        touched.append([event, str(args[0])])
sys.addaudithook(watch)
environment = dict(os.environ)
for name in sys.argv[1:]:
    importlib.import_module(name)
ours = {key for key in os.environ if os.environ[key] != environment.get(key)}
print("RESULT" + json.dumps({"touched": touched, "set": sorted(k for k in ours if k.startswith(("GNOMONIC", "HF_")))}))
"""


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-B", "-c", code, *arguments],
        env={**kept, "PYTHONPATH": str(PACKAGE.parent), "HOME": os.devnull},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


@pytest.fixture(scope="module")
def root_import() -> dict[str, Any]:
    """The lightest of five imports in fresh processes; CPU time, since a busy machine stretches wall time."""
    runs = [_run(_MEASURE) for _ in range(5)]
    assert all(run.returncode == 0 for run in runs), runs[0].stderr
    measured: list[dict[str, Any]] = [json.loads(run.stdout) for run in runs]
    return min(measured, key=lambda one: float(one["ms"]))


def test_the_root_imports_fast(root_import: dict[str, Any]) -> None:
    assert root_import["ms"] < IMPORT_MS


def test_the_root_loads_no_runtime(root_import: dict[str, Any]) -> None:
    assert {name.partition(".")[0] for name in root_import["modules"]} & HEAVY == set()


def test_every_module_imports_silently_and_touches_nothing() -> None:
    names = [
        ".".join(["gnomonic", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for path in modules()
        if path.name != "__main__.py"
    ]
    done = _run(_IMPORT_ALL, *names)
    assert done.returncode == 0, done.stderr
    printed, _, result = done.stdout.rpartition("RESULT")
    report = json.loads(result)
    written = [event for event in report["touched"] if Path(event[1]) != Path(os.devnull)]
    assert printed == ""
    assert done.stderr == ""
    assert written == []
    assert report["set"] == []
