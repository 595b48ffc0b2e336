"""docs/generate.py turns result files into Markdown, and says so when there are none."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.house.sources import ROOT


@pytest.fixture
def generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load the script with an empty folder of results."""
    spec = importlib.util.spec_from_file_location("docs_generate_under_test", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def _publish(folder: Path, question: str, date: str, **measured: object) -> None:
    document = {
        "question": question,
        "environment": {"date": f"{date}T00:00:00+00:00", "cpu": "A CPU"},
        **measured,
    }
    (folder / f"{question}_a-cpu_{date}.json").write_text(json.dumps(document), encoding="utf-8")


def _throughput(tokens_per_s: float) -> dict[str, object]:
    def row(peer: str, workload: str, rate: float) -> dict[str, object]:
        cosine = None if workload == "doc8192" else 0.99991
        return {"peer": peer, "workload": workload, "threads": 2, "tokens_per_s": rate,
                "centred_cosine_mean": cosine, "peak_rss_gb": 1.234}  # fmt: skip

    seconds = {("st-fp32", 0): 4.0, ("st-fp32", 1): 6.0, ("gnomonic-fp32", 0): 2.0, ("gnomonic-fp32", 1): 2.0}
    return {
        "threads": [1, 2],
        "summary": [
            row("gnomonic-fp32", "passages", tokens_per_s),
            row("gnomonic-fp32", "doc8192", 5.0),
            row("st-fp32", "passages", 10.0),
        ],
        "repeats": [
            {"peer": peer, "round": number, "seconds": taken, "threads": 2, "workload": "passages"}
            for (peer, number), taken in seconds.items()
        ],
    }


def test_without_results_the_page_says_so(generate: ModuleType) -> None:
    page = ROOT / "README.md"
    text = "a\n<!-- generated:benchmarks -->\n| old | 1 |\n<!-- /generated:benchmarks -->\nb\n"
    assert generate.render(text, page) == (
        "a\n<!-- generated:benchmarks -->\nNot measured yet: `make bench`, then `make docs`.\n"
        "<!-- /generated:benchmarks -->\nb\n"
    )


def test_the_table_holds_the_newest_result(generate: ModuleType, tmp_path: Path) -> None:
    _publish(tmp_path, "embed_throughput", "2026-01-02", **_throughput(1234.5))
    _publish(tmp_path, "embed_throughput", "2025-12-31", **_throughput(9.0))
    table = generate.benchmarks()
    assert "| **Gnomonic, fp32** | 1,234 | 2.50 × | - | - | 1.23 | 0.9999 |" in table
    assert "| sentence-transformers, fp32 | 10 | 1.00 × | - | - | - | 0.9999 |" in table
    assert "embed_throughput_a-cpu_2026-01-02.json" in table
    assert "2025" not in table


def test_latency_fills_its_column(generate: ModuleType, tmp_path: Path) -> None:
    _publish(tmp_path, "embed_throughput", "2026-01-02", **_throughput(1000.0))
    latency = [{"peer": "gnomonic-fp32", "threads": threads, "p50_ms": 10.0 * threads} for threads in (1, 2)]
    _publish(tmp_path, "embed_latency", "2026-01-02", latency=latency, cold_start=[])
    assert "| **Gnomonic, fp32** | 1,000 | 2.50 × | - | 20.0 | 1.23 | 0.9999 |" in generate.benchmarks()


def test_links_are_relative_to_the_page(generate: ModuleType, tmp_path: Path) -> None:
    rows = [{"model": "mini", "precision": "fp32", "dim": 64, "mean": 0.65, "mean_sts": 0.71234, "sts_stsb_test": 0.68}]
    published = {"rows": rows, "protocols": {"sts_stsb_test": "cosine"}, "bm25": {}}
    _publish(tmp_path, "bundled_model", "2026-01-02", **published)
    text = "<!-- generated:quality -->\n<!-- /generated:quality -->\n"
    filled = generate.render(text, ROOT / "docs" / "reference" / "models.md")
    assert "| mini | fp32 | 64 | 0.650 | 0.712 |" in filled
    assert "(../../benchmarks/results/bundled_model_a-cpu_2026-01-02.json)" in filled
    assert "| sts_stsb_test | 0.680 | - |" in generate.tasks()


def test_the_footprint_names_size_import_and_first_vector(generate: ModuleType, tmp_path: Path) -> None:
    _publish(
        tmp_path,
        "install_size",
        "2026-01-02",
        total_mb=291.6,
        gnomonic_mb=29.5,
        import_wall_ms=[30.0, 20.0, 25.0],
    )
    starts = [
        {"start": "bundled model, fp32", "median_s": 0.512},
        {"start": "gnomonic-fp32", "median_s": 1.4},
    ]
    _publish(tmp_path, "embed_latency", "2026-01-02", latency=[], cold_start=starts)
    sentence = generate.footprint()
    assert "292 MB in all, 30 of them" in sentence
    assert "takes 25 ms" in sentence
    assert "after 0.51 s" in sentence
    assert "1.4" not in sentence


def test_an_unknown_part_is_an_error(generate: ModuleType) -> None:
    with pytest.raises(KeyError):
        generate.render("<!-- generated:nothing -->\n<!-- /generated:nothing -->", ROOT / "README.md")
