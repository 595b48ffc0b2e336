"""How much does `pip install .` put on a disk, and how long does the first import take?

Makes a clean virtual environment, installs this repository into it as a user would (so the package registry must be
reachable), and measures what was added: bytes per distribution, compiled bytecode included, and the time of
`import gnomonic` and `gnomonic --help` in fresh processes. The environment's own pip and setuptools are not counted
in the total and given beside it. Prints a table, then one line of JSON, which also goes to `benchmarks/results/`.

    python -m benchmarks.install_size [--quick]     --quick installs nothing new: it measures the running environment
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.harness import Bar

__all__ = ["main", "measure"]

BAR_MB = 300
IMPORT_BAR_MS = 150
REPEATS = 7

# Run inside the measured environment: bytes of every distribution, and of files that belong to none.
_WEIGH = """
import importlib.metadata as metadata, json, pathlib, sys
root = pathlib.Path(sys.argv[1])
weights, owned = {}, set()
for distribution in metadata.distributions(path=[str(root)]):
    paths = {pathlib.Path(distribution.locate_file(file)).resolve() for file in distribution.files or []}
    paths |= {cached for path in paths for cached in path.parent.glob(f"__pycache__/{path.stem}.*.pyc")}
    paths = {path for path in paths if path.is_file()}
    name = distribution.metadata["Name"].lower()
    weights[name] = {"version": distribution.version, "bytes": sum(path.stat().st_size for path in paths)}
    owned |= paths
total = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
print(json.dumps({"distributions": weights, "site_packages_bytes": total}))
"""

_IMPORT = """
import json, sys, time
wall, cpu = time.perf_counter(), time.process_time()
import gnomonic
print(json.dumps({"wall_ms": 1000 * (time.perf_counter() - wall), "cpu_ms": 1000 * (time.process_time() - cpu),
                  "torch": "torch" in sys.modules, "runtime": "onnxruntime" in sys.modules}))
"""

_HELP = """
import json, subprocess, sys, time
started = time.perf_counter()
subprocess.run([sys.executable, "-c", "from gnomonic.cli.main import app_main; app_main()", "--help"], check=True,
               capture_output=True)
print(json.dumps({"wall_ms": 1000 * (time.perf_counter() - started)}))
"""


def _ask(python: Path | str, code: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run([python, "-c", code, *arguments], check=True, capture_output=True, text=True, cwd="/")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _install(folder: Path) -> Path:
    """Install the repository into a new environment and return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", harness.ROOT], check=True)
    return python


def measure(python: Path | str, packages: Path) -> dict[str, Any]:
    """Weigh an environment and time its first import.

    Args:
        python: its interpreter.
        packages: its site-packages folder.
    """
    weighed = _ask(python, _WEIGH, str(packages))
    sizes = {name: item["bytes"] for name, item in weighed["distributions"].items()}
    own = sum(sizes.pop(name, 0) for name in ("pip", "setuptools"))
    _ask(python, _IMPORT)  # the first import compiles; users meet that once
    imports = [_ask(python, _IMPORT) for _ in range(REPEATS)]
    helps = [_ask(python, _HELP) for _ in range(REPEATS)]
    return {
        "total_mb": (weighed["site_packages_bytes"] - own) / 1e6,
        "total_without_model_mb": (weighed["site_packages_bytes"] - own - sizes.get("gnomonic", 0)) / 1e6,
        "gnomonic_mb": sizes.get("gnomonic", 0) / 1e6,
        "environment_own_mb": own / 1e6,
        "distributions_mb": {name: size / 1e6 for name, size in sorted(sizes.items(), key=lambda item: -item[1])},
        "versions": {name: item["version"] for name, item in sorted(weighed["distributions"].items())},
        "torch_installed": "torch" in sizes,
        "import_loads_runtime": any(one["torch"] or one["runtime"] for one in imports),
        "import_wall_ms": [one["wall_ms"] for one in imports],
        "import_cpu_ms": [one["cpu_ms"] for one in imports],
        "help_wall_ms": [one["wall_ms"] for one in helps],
    }


def _bars(measured: dict[str, Any]) -> list[Bar]:
    """Judge what the project promises."""
    torch = float(measured["torch_installed"] or measured["import_loads_runtime"])
    best_ms = min(measured["import_wall_ms"])
    return [
        Bar(name="installed size", value=measured["total_mb"], limit=BAR_MB, at_least=False, unit="MB"),
        Bar(
            name="torch installed, or a runtime imported",
            value=torch,
            limit=0.5,
            at_least=False,
            unit="times",
        ),
        Bar(name="import gnomonic, best", value=best_ms, limit=IMPORT_BAR_MS, at_least=False, unit="ms"),
    ]


def _print(measured: dict[str, Any]) -> None:
    sizes = [(name, size) for name, size in measured["distributions_mb"].items() if size >= 1]
    total = ("in all, pip and setuptools excepted", measured["total_mb"])
    harness.print_table("installed, distributions of 1 MB and more", ["distribution", "MB"], [*sizes, total])
    times = [
        (label, statistics.median(measured[key]), min(measured[key]))
        for key, label in (("import_wall_ms", "import gnomonic"), ("help_wall_ms", "gnomonic --help"))
    ]
    harness.print_table(f"new processes, of {REPEATS}", ["", "median ms", "best ms"], times)


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="measure the running environment and record nothing")
    parser.add_argument("--out", type=Path, help="folder of the result file")
    options = parser.parse_args()
    if options.quick:
        measured = measure(sys.executable, Path(sysconfig.get_path("purelib")))
    else:
        with tempfile.TemporaryDirectory(prefix="gnomonic-install-") as folder:
            python = _install(Path(folder))
            (packages,) = Path(folder).glob("**/site-packages")
            measured = measure(python, packages)
    bars = _bars(measured)
    _print(measured)
    harness.print_bars(bars)
    out = options.out or (None if options.quick else harness.RESULTS)
    harness.publish("install_size", measured, bars, out)


if __name__ == "__main__":
    main()
