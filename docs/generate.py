"""Write what is generated in the Markdown pages; `make docs` runs it, and a test fails when a page is stale.

A part stands between `<!-- generated:NAME -->` and `<!-- /generated:NAME -->`, in any page; NAME is a function below,
which reads `benchmarks/results`, so no figure is ever typed by hand. The page of the command line is generated whole.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main", "render", "stale_files"]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- generated:(\w+) -->\n).*?(<!-- /generated:\2 -->)", re.DOTALL)

REFERENCE = "st-fp32"
SYSTEMS = {
    "gnomonic-fp32": "**Gnomonic, fp32**",
    "gnomonic-int8": "**Gnomonic, int8**",
    "gnomonic-bf16": "**Gnomonic, bf16** (with torch)",
    "st-fp32": "sentence-transformers, fp32",
    "st-bf16": "sentence-transformers, bf16",
    "ort-fp32": "plain ONNX Runtime loop, fp32",
    "ort-int8": "plain ONNX Runtime loop, int8",
    "openvino-fp32": "OpenVINO, fp32",
    "openvino-bf16": "OpenVINO, bf16",
}
TRAINERS = {
    "gnomonic": "**Gnomonic**",
    "st-32": "sentence-transformers, mini-batches of 32",
    "st-128": "sentence-transformers, mini-batches of 128",
}
KINDS = {
    "cls": "classification (accuracy)",
    "clu": "clustering (v-measure)",
    "pair": "pairs (average precision)",
    "rerank": "reranking (MAP)",
    "ret": "retrieval (nDCG@10)",
    "sts": "similarity (Spearman)",
}

Row = Mapping[str, Any]


def _newest(question: str) -> tuple[Path, dict[str, Any]] | None:
    """Return the latest result of a benchmark by its own date, since a clone's file times say nothing."""
    found = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in RESULTS.glob(f"{question}_*.json")]
    return max(found, key=lambda item: (item[1]["environment"]["date"], item[0].name), default=None)


def _link(path: Path, result: Row) -> str:
    return f"[{result['question']}](benchmarks/results/{path.name})"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join(["---", *["---:"] * (len(columns) - 1)]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _round_ratio(result: Row, peer: str, workload: str, threads: int) -> str:
    """Return how many times as fast as the reference a system was: the median of the ratios within each round."""
    seconds = {
        (entry["peer"], entry["round"]): entry["seconds"]
        for entry in result["repeats"]
        if entry["threads"] == threads and entry["workload"] == workload
    }
    ratios = [
        seconds[REFERENCE, number] / taken
        for (name, number), taken in seconds.items()
        if name == peer and (REFERENCE, number) in seconds
    ]
    return f"{statistics.median(ratios):.2f} ×" if ratios else "-"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _speed_rows(result: Row, latency: Row | None, threads: int) -> list[list[str]]:
    found = {(row["peer"], row["workload"]): row for row in result["summary"] if row["threads"] == threads}
    p50 = {row["peer"]: row["p50_ms"] for row in (latency or {}).get("latency", ()) if row["threads"] == threads}
    rows = []
    for peer, label in SYSTEMS.items():
        passages, long = found.get((peer, "passages")), found.get((peer, "doc8192"), {})
        if passages is None:
            continue
        rows.append(
            [
                label,
                _number(passages["tokens_per_s"], ",.0f"),
                _round_ratio(result, peer, "passages", threads),
                _round_ratio(result, peer, "queries", threads),
                _number(p50.get(peer), ".1f"),
                _number(long.get("peak_rss_gb"), ".2f"),
                _number(passages["centred_cosine_mean"], ".4f"),
            ]
        )
    return rows


def benchmarks() -> str:
    """The README's table: one model shape, every system in turn on the same machine."""
    throughput, latency = _newest("embed_throughput"), _newest("embed_latency")
    if throughput is None:
        return "Not measured yet: `make bench`, then `make docs`."
    result = throughput[1]
    threads = max(result["threads"])
    columns = ["", "passages, tokens/s", "passages", "queries", "one query, ms", "8,192 tokens, GB", "cosine"]
    environment = result["environment"]
    intro = (
        f"The shape of nomic-embed-text-v1.5 with random weights, {threads} threads of an {environment['cpu']}, all "
        "systems in turn on the same texts. × is against sentence-transformers fp32 at its default batch size, within "
        "each round; GB is the peak memory of a process that embeds one text of that length; cosine is the agreement "
        "with sentence-transformers fp32 on the passages, centred. Absolute numbers on a shared machine do not "
        "repeat; ratios do."
    )
    sources = [_link(*found) for found in (throughput, latency) if found]
    parts = [intro, _table(columns, _speed_rows(result, latency[1] if latency else None, threads))]
    parts.append("From " + " and ".join(sources) + f", {environment['date'][:10]}.")
    return "\n\n".join(parts)


def footprint() -> str:
    """One sentence on what a plain install costs."""
    install, latency = _newest("install_size"), _newest("embed_latency")
    sentences = []
    if install:
        path, result = install
        import_ms = statistics.median(result["import_wall_ms"])
        sentences.append(
            f"A plain install is {result['total_mb']:.0f} MB in all, {result['gnomonic_mb']:.0f} of them Gnomonic with "
            f"its model; `import gnomonic` takes {import_ms:.0f} ms ({_link(path, result)})."
        )
    if latency:
        path, result = latency
        for row in result["cold_start"]:
            if row["start"].startswith("bundled"):
                sentences.append(
                    f"A new process has its first vector of the bundled model after {row['median_s']:.2f} s "
                    f"({_link(path, result)})."
                )
    return " ".join(sentences) or "Not measured yet."


def quality() -> str:
    """What the bundled model scores by kind of task, full and shortened, beside a known model of the same width."""
    found = _newest("bundled_model")
    if found is None:
        return "Not measured yet."
    path, result = found
    kinds = [kind for kind in KINDS if f"mean_{kind}" in result["rows"][0]]
    columns = ["model", "precision", "dimensions", "mean", *(KINDS[kind] for kind in kinds)]
    rows = [
        [row["model"], row["precision"], str(row["dim"]), f"{row['mean']:.3f}"]
        + [f"{row[f'mean_{kind}']:.3f}" for kind in kinds]
        for row in result["rows"]
    ]
    return _table(columns, rows) + f"\n\nFrom {_link(path, result)}, {result['environment']['date'][:10]}."


def tasks() -> str:
    """The same task by task, at full width, with BM25 where there is something to rank."""
    found = _newest("bundled_model")
    if found is None:
        return "Not measured yet."
    path, result = found
    full = max(row["dim"] for row in result["rows"])
    shown = [row for row in result["rows"] if row["dim"] == full and row["precision"] == "fp32"]
    names = [name for name in shown[0] if name in result["protocols"]]
    bm25 = result["bm25"]
    rows = [[name, *(f"{row[name]:.3f}" for row in shown), _number(bm25.get(name), ".3f")] for name in sorted(names)]
    table = _table(["task", *(row["model"] for row in shown), "BM25"], rows)
    return table + f"\n\nFrom {_link(path, result)}, {result['environment']['date'][:10]}."


def long_texts() -> str:
    """How much of a long text the bundled model uses."""
    found = _newest("long_context")
    if found is None:
        return "Not measured yet."
    path, result = found
    rows = [
        [row["model"], row["precision"], f"{row['tokens']:,}", f"{row['ndcg_at_10']:.3f}"] for row in result["rows"]
    ]
    return _table(["model", "precision", "tokens read", "nDCG@10"], rows) + f"\n\nFrom {_link(path, result)}."


def training_runs() -> str:
    """The runs that made the bundled model, from their own metrics."""
    rows = []
    for path in sorted(RESULTS.glob("train_text-mini-*.jsonl")):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        last = lines[-1]
        rate = statistics.median(line["tokens_per_s"] for line in lines)
        tokens = rate * last["elapsed_s"]
        cells = [f"{last['step']:,}", f"{last['elapsed_s'] / 3600:.2f}", f"{rate:,.0f}", f"{tokens / 1e6:.1f}"]
        rows.append([path.stem.removeprefix("train_text-mini-"), *cells, f"{last['loss']:.3f}"])
    return _table(["run", "steps", "hours", "tokens/s, median", "million tokens, about", "last loss"], rows)


def training_speed() -> str:
    """Training beside sentence-transformers' trainer."""
    found = _newest("train_throughput")
    if found is None:
        return "Not measured yet."
    path, result = found
    rows = [
        [
            row["case"],
            TRAINERS.get(row["peer"], row["peer"]),
            _number(row["tokens_per_s"], ",.0f"),
            _number(row["share_of_gemm_peak"], ".0%"),
            _number(row["peak_rss_gb"], ".1f"),
        ]
        for row in result["summary"]
    ]
    bars = "; ".join(f"{bar['name']} {_number(bar['value'], '.2g' if 'diff' in bar['name'] else '.2f')}"
                     for bar in result["bars"])  # fmt: skip
    table = _table(["step", "trainer", "tokens/s", "of the bf16 GEMM peak", "GB"], rows)
    return f"{table}\n\n{bars}. From {_link(path, result)}, {result['environment']['date'][:10]}."


def serving() -> str:
    """The server beside Infinity."""
    found = _newest("server_load")
    if found is None:
        return "Not measured yet."
    path, result = found
    rows = [
        [
            row["system"],
            _number(row["saturated_per_s"], ",.0f"),
            _number(row["of_the_library"], ".0%"),
            *(
                _number(row[f"{load}_{share}_ms"], ",.0f")
                for load in ("half", "equal", "beside")
                for share in ("p50", "p99")
            ),
        ]
        for row in result["rows"]
    ]
    columns = ["server", "texts/s", "of the library", "half load: p50, ms", "p99, ms", "equal load: p50, ms", "p99, ms",
               "beside 1,000 texts: p50, ms", "p99, ms"]  # fmt: skip
    costs = ", ".join(f"{row['way']} {row['us_per_vector']:.0f} µs" for row in result["writing"])
    about = f"The library alone, in one batch: {result['library_per_s']:.0f} texts/s."
    return (
        f"{_table(columns, rows)}\n\n{about} Writing a vector of 768 values: {costs}. "
        f"From {_link(path, result)}, {result['environment']['date'][:10]}."
    )


def maps() -> str:
    """Maps beside umap-learn and openTSNE."""
    found = _newest("map_build")
    if found is None:
        return "Not measured yet."
    path, result = found
    keys = {"seconds": ",.0f", "peak_gb": ".1f", "neighborhood_preservation": ".3f", "trustworthiness": ".3f",
            "triplet_accuracy": ".3f"}  # fmt: skip
    rows = [
        [size, "**Gnomonic**" if system == "gnomonic" else system, *(_number(told.get(k), f) for k, f in keys.items())]
        for size, systems in result["sizes"].items()
        for system, told in systems.items()
    ]
    columns = ["rows × 768", "system", "seconds", "GB", "NP@10", "trustworthiness@15", "triplets"]
    return f"{_table(columns, rows)}\n\nFrom {_link(path, result)}, {result['environment']['date'][:10]}."


def searching() -> str:
    """Search of a map beside vector indices."""
    found = _newest("search")
    if found is None:
        return "Not measured yet."
    path, result = found
    rows = [
        [f"{row['rows']:,}", row["system"], _number(row["recall"], ".3f"), _number(row["p50_ms"], ",.1f"),
         _number(row["p99_ms"], ",.1f"), _number(row["build_s"], ",.0f")]
        for row in result["measured"]
    ]  # fmt: skip
    columns = ["rows × 768", "system", "recall@10", "p50, ms", "p99, ms", "building, s"]
    return f"{_table(columns, rows)}\n\nFrom {_link(path, result)}, {result['environment']['date'][:10]}."


def exploring() -> str:
    """The map in a browser beside another one."""
    found = _newest("viewer")
    if found is None:
        return "Not measured yet."
    path, result = found
    kept = {"first_s": (1, ".2f"), "bytes_before": (1e6, ".1f"), "frame_ms": (1, ".0f"), "filter_ms": (1, ".0f")}
    rows = [
        [f"{row['rows']:,}", row["system"]]
        + [_number(statistics.median(row[k]) / by if row[k] else None, form) for k, (by, form) in kept.items()]
        for row in result["measured"]
    ]
    columns = ["points", "page", "first points, s", "MB before", "frame while panning, ms", "a filter, ms"]
    return f"{_table(columns, rows)}\n\nFrom {_link(path, result)}, {result['environment']['date'][:10]}."


def planted() -> str:
    """Planted duplicates."""
    found = _newest("duplicates")
    if found is None:
        return "Not measured yet."
    path, result = found
    told = "; ".join(
        f"{row['planted']:,} copies among {row['texts']:,} {name}: recall {row['recall']:.3f}, "
        f"precision {row['precision']:.3f}"
        for name, row in result["corpora"].items()
    )
    return f"{told} ({_link(path, result)})."


def topic_trees() -> str:
    """The topics of the maps that `benchmarks.duplicates` builds."""
    found = _newest("duplicates")
    if found is None:
        return "Not measured yet."
    path, result = found
    trees = [
        f"{row['texts'] + row['planted']:,} {name}:\n\n```\n" + "\n".join(row["topics"]) + "\n```\n"
        for name, row in result["corpora"].items()
    ]
    return "\n".join(trees) + f"\nFrom {_link(path, result)}."


def command_line() -> str:
    """The reference of the commands, from the commands themselves."""
    from gnomonic.cli.reference import render as render_commands

    return render_commands()


WHOLE: dict[str, Callable[[], str]] = {"docs/reference/cli.md": command_line}
PARTS: dict[str, Callable[[], str]] = {
    "benchmarks": benchmarks,
    "exploring": exploring,
    "footprint": footprint,
    "long_texts": long_texts,
    "maps": maps,
    "planted": planted,
    "searching": searching,
    "quality": quality,
    "tasks": tasks,
    "topic_trees": topic_trees,
    "training_runs": training_runs,
    "serving": serving,
    "training_speed": training_speed,
}


def render(text: str, page: Path) -> str:
    """Return a page's text with its generated parts as they should be.

    Args:
        text: the page.
        page: where it stands; links to results are made relative to it.

    Raises:
        KeyError: a part has a name that no function here has.
    """
    whole = WHOLE.get(page.relative_to(ROOT).as_posix())
    if whole:
        return whole()
    up = "../" * (len(page.relative_to(ROOT).parts) - 1)

    def fill(match: re.Match[str]) -> str:
        content = PARTS[match[2]]().replace("](benchmarks/", f"]({up}benchmarks/")
        return f"{match[1]}{content}\n{match[3]}"

    return BLOCK.sub(fill, text)


def _pages() -> list[Path]:
    cards = sorted((ROOT / "src/gnomonic/assets").rglob("*.md"))
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *ROOT.glob("benchmarks/*.md"), *cards]


def stale_files() -> list[str]:
    """Return the pages whose generated parts are not what this script would write."""
    texts = {page: page.read_text(encoding="utf-8") for page in _pages()}
    return [str(page.relative_to(ROOT)) for page, text in texts.items() if render(text, page) != text]


def main() -> None:
    """Rewrite every stale page."""
    stale = stale_files()
    for name in stale:
        page = ROOT / name
        page.write_text(render(page.read_text(encoding="utf-8"), page), encoding="utf-8")
    sys.stdout.write(f"rewrote {', '.join(stale)}\n" if stale else "everything is up to date\n")


if __name__ == "__main__":
    main()
