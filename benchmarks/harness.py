"""What every benchmark shares: processes to measure, agreement, bars, environment, and the result file."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.workloads import Shape, Workload, default_workdir, make_checkpoint

__all__ = [
    "Bar",
    "PeerError",
    "Worker",
    "Workshop",
    "centred_cosine",
    "common_parser",
    "newest_result",
    "open_workshop",
    "percentile",
    "print_bars",
    "print_table",
    "publish",
]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = (
    "numpy", "onnx", "onnxruntime", "openvino", "safetensors", "sentence-transformers", "tokenizers", "torch",
    "transformers",
)  # fmt: skip


class PeerError(Exception):
    """A system could not be started or failed; the message is the last line it wrote."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """Where a run keeps its files, and what every process it starts is given."""

    workdir: Path
    folder: Path
    """The checkpoint."""

    @property
    def graphs(self) -> Path:
        """The plain ONNX graphs of this checkpoint."""
        return self.workdir / f"graphs-{self.folder.name}"

    def environment(self, threads: int, *, cache: Path | None = None) -> dict[str, str]:
        """Return the environment of a measured process: so many threads in every library, and no network."""
        paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        counts = (
            "GNOMONIC_THREADS",
            "MKL_NUM_THREADS",
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "RAYON_NUM_THREADS",
        )
        return os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "GNOMONIC_CACHE": str(cache or self.workdir / "cache"),
            "GNOMONIC_OFFLINE": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false",
            **dict.fromkeys(counts, str(threads)),
        }

    def texts_file(self, workload: Workload) -> Path:
        """Return a JSON file with the workload's texts, for the processes to read."""
        path = self.workdir / f"texts-{self.folder.name}-{workload.name}-{workload.digest[:12]}.json"
        if not path.exists():
            path.write_text(json.dumps(workload.texts), encoding="utf-8")
        return path


def open_workshop(shape: Shape, workdir: Path) -> Workshop:
    """Return the checkpoint of that shape and its plain ONNX graphs; made on the first call."""
    from benchmarks.plain_graph import export_plain, quantize_plain

    shop = Workshop(workdir=workdir, folder=make_checkpoint(shape, workdir))
    shop.graphs.mkdir(parents=True, exist_ok=True)
    plain = export_plain(shop.folder, shop.graphs / "plain-fp32.onnx")
    quantize_plain(plain, shop.graphs / "plain-int8.onnx")
    return shop


class Worker:
    """One system in a process of its own, on the last `threads` CPUs this process may use."""

    def __init__(
        self, shop: Workshop, peer: str, threads: int, *, cache: Path | None = None, extra: Sequence[str] = ()
    ) -> None:
        self.shop, self.peer, self.threads = shop, peer, threads
        shop.workdir.mkdir(parents=True, exist_ok=True)
        self.log = shop.workdir / f"{peer}-{os.getpid()}.log"
        command = [sys.executable, "-m", "benchmarks.peers", peer, str(shop.folder)]
        command += ["--threads", str(threads), "--graphs", str(shop.graphs), *extra]
        self.started = time.perf_counter()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=shop.environment(threads, cache=cache),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        os.sched_setaffinity(self.process.pid, sorted(os.sched_getaffinity(0))[-threads:])

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            self.close()
            written = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            last = written[-1] if written else f"exit status {self.process.returncode}"
            # Result files are published: they say what happened, not where on this machine.
            last = last.replace(str(self.shop.workdir), "WORKDIR").replace(str(ROOT), ".")
            raise PeerError(f"{self.peer}: {last}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait_ready(self) -> tuple[float, dict[str, Any]]:
        """Wait for the first answer; return the seconds since the process was started, and the answer.

        Raises:
            PeerError: the process ended instead.
        """
        answer = self._read()
        return time.perf_counter() - self.started, answer

    def ask(self, op: str, workload: Workload | None = None, **options: Any) -> dict[str, Any]:
        """Send one request and wait for its answer.

        Raises:
            PeerError: the process ended instead.
        """
        request: dict[str, Any] = {"op": op, "out": None, **options}
        if workload is not None:
            request |= {"texts": str(self.shop.texts_file(workload)), "task_type": workload.task_type}
            request.setdefault("count", len(workload.texts))
        if self.process.stdin is None or self.process.poll() is not None:
            return self._read()
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        if self.process.stdin:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A measured value beside the limit it must keep."""

    name: str
    value: float | None
    """None when it could not be measured."""
    limit: float
    at_least: bool = True
    unit: str = "x"

    @property
    def verdict(self) -> str:
        """PASS, FAIL or NOT MEASURED."""
        if self.value is None:
            return "NOT MEASURED"
        held = self.value >= self.limit if self.at_least else self.value <= self.limit
        return "PASS" if held else "FAIL"

    def describe(self) -> str:
        """Return the bar in one line: verdict, value, limit, and value over limit."""
        sign = "≥" if self.at_least else "≤"
        if self.value is None:
            return f"{self.verdict:12} {self.name}: must be {sign} {self.limit:g} {self.unit}"
        ratio = self.value / self.limit
        found = f"{self.verdict:12} {self.name}: {self.value:.4g} {self.unit}".rstrip()
        return f"{found} (must be {sign} {self.limit:g}; {ratio:.2f} of it)"


def centred_cosine(
    vectors: NDArray[np.float32], reference: NDArray[np.float32], *, own_mean: bool = False
) -> tuple[float, float]:
    """Compare two systems' vectors of the same texts after v1.5 post-processing.

    Random networks put all texts into a narrow cone, where plain cosine flatters everything; so the reference's
    mean vector is taken off both first.

    Args:
        vectors: [n, hidden] float32, pooled or finished.
        reference: [n, hidden] float32.
        own_mean: take off each side's own mean instead. An error that is the same for every text then vanishes, as
            it nearly does where a system's vectors are compared with one another.

    Returns:
        mean and minimum over the texts; 1 when there are fewer than two texts and so nothing to centre.
    """

    def finish(x: NDArray[np.float32]) -> NDArray[np.float64]:
        wide = x.astype(np.float64)
        wide -= wide.mean(axis=1, keepdims=True)
        return wide / np.linalg.norm(wide, axis=1, keepdims=True)

    a, b = finish(vectors), finish(reference)
    if len(a) < 2:
        return 1.0, 1.0
    a, b = a - (a if own_mean else b).mean(axis=0), b - b.mean(axis=0)
    cosines = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return float(cosines.mean()), float(cosines.min())


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which that percentage of `values` lies."""
    return float(np.percentile(list(values), share))


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _cpu_features() -> list[str]:
    """Return which of the instruction sets that decide a GEMM's speed this CPU has."""
    wanted = {
        "avx2",
        "avx512f",
        "avx512_vnni",
        "avx_vnni",
        "avx512_bf16",
        "amx_bf16",
        "amx_int8",
        "asimddp",
        "i8mm",
    }
    words = set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text(encoding="utf-8")))
    return sorted(wanted & words)


def _git(*command: str) -> str:
    run = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else ""


def describe_environment() -> dict[str, Any]:
    """Return what a reader needs to repeat a run: commit, command, versions, CPU."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "commit": _git("rev-parse", "HEAD") or None,
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", "src", "benchmarks/*.py")),
        "command": " ".join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "cpu": _cpu_model(),
        "cpu_features": _cpu_features(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "load_average": os.getloadavg(),
    }


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print an aligned table; floats with three significant digits, None as a dash."""

    def cell(value: Any) -> str:
        if value is None:
            return "-"
        if isinstance(value, float):
            return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return str(value)

    body = [[cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *body]) for i in range(len(columns))]
    print(f"\n{title}")
    for line in [list(columns), ["-" * width for width in widths], *body]:
        first, *rest = zip(line, widths, strict=True)
        print("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]))


def print_bars(bars: Sequence[Bar]) -> None:
    """Print every bar with its verdict."""
    print()
    for bar in bars:
        print(bar.describe())


def publish(question: str, result: Mapping[str, Any], bars: Sequence[Bar], out: Path | None) -> None:
    """Write `results/QUESTION_HARDWARE_DATE.json` and print the same object as the last line.

    Args:
        question: which benchmark.
        result: its measurements, all repeats included.
        bars: what was required of it.
        out: the folder to write to; None writes no file.
    """
    environment = describe_environment()
    judged = [asdict(bar) | {"verdict": bar.verdict} for bar in bars]
    document = {"question": question, "environment": environment, **result, "bars": judged}
    line = json.dumps(document, separators=(",", ":"))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        cpu = re.sub(r"[^a-z0-9]+", "-", environment["cpu"].lower().replace("processor", "")).strip("-")
        path = out / f"{question}_{cpu}-{environment['cpus']}cpu_{environment['date'][:10]}.json"
        scratch = path.with_suffix(".tmp")
        scratch.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        scratch.replace(path)
        print(f"\nwrote {path.name}")
    print(line, flush=True)


def newest_result(question: str) -> dict[str, Any] | None:
    """Return the latest published result of a benchmark, by its own date; None when there is none."""
    found: list[dict[str, Any]] = [
        json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob(f"{question}_*.json")
    ]
    return max(found, key=lambda document: document["environment"]["date"], default=None)


def common_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="a tiny shape: shows that it runs, measures nothing")
    parser.add_argument("--rounds", type=int, help="interleaved repeats")
    parser.add_argument("--threads", type=int, nargs="+", help="thread counts (default: 1 and all CPUs)")
    parser.add_argument("--peers", nargs="+", help="systems to measure (default: all that are installed)")
    parser.add_argument("--workdir", type=Path, default=default_workdir(), help="checkpoints, graphs and logs")
    parser.add_argument("--out", type=Path, help="folder of the result file (--quick writes none unless this is given)")
    return parser
