"""What does each choice behind the bundled model buy? Short runs from the same recipe, one thing changed in each.

    python -m benchmarks.train_variants --minutes 2

Every run gets the same time by the clock and is judged by STS-B dev, whose texts no run learns from. A few minutes say
what learns fast, not what learns most; the order of two runs that are close means nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS, ROOT, print_table, publish

DATA = ROOT.parent / "shared" / "data"
RECIPE = ROOT / "recipes" / "text-mini-1-distill.toml"
BATCH = {"batch_size": 96, "query_tokens": 48, "document_tokens": 96, "temperature": 0.05}


@dataclass(frozen=True, kw_only=True)
class Variant:
    label: str
    overrides: Mapping[str, Any]
    contrastive: bool = False
    mlm_share: float = 0.0
    """Part of the time spent on masked words first."""
    vocabulary: int = 0
    """Entries of a vocabulary made for this run; 0: the recipe's."""


VARIANTS = (
    Variant(label="the recipe", overrides={}),
    Variant(label="word table from nothing", overrides={"start_words": False}),
    Variant(label="vocabulary of 10,240", overrides={}, vocabulary=10240),
    Variant(label="6 layers", overrides={"model": {"num_layers": 6}}),
    Variant(label="2 layers", overrides={"model": {"num_layers": 2}}),
    Variant(label="width of the MLP 1,536", overrides={"model": {"intermediate_size": 1536}}),
    Variant(label="half the batch", overrides={"batch_size": 48}),
    Variant(label="vectors only", overrides={"similarity_weight": 0.0}),
    Variant(label="rankings only", overrides={"embedding_weight": 0.0}),
    Variant(label="states of the tokens too", overrides={"token_weight": 2.0}),
    Variant(label="an altered copy beside each text", overrides={"altered_share": 1.0}),
    Variant(label="one source a batch", overrides={"sources_per_batch": 1}),
    Variant(label="whole documents, no sentences", overrides={"sentence_share": 0.0}),
    Variant(label="masked words for a quarter of the time first", overrides={}, mlm_share=0.25),
    Variant(label="no teacher: pairs alone", overrides={}, contrastive=True),
)


class TimeIsUpError(Exception):
    pass


def train(stage: Any, minutes: float, out: Path) -> dict[str, Any]:
    """Run a stage until its time is up; return steps, tokens/s and the last loss."""
    from gnomonic.training import loop

    seen: list[loop.Metrics] = []
    began = time.perf_counter()

    def on_log(metrics: loop.Metrics) -> None:
        seen.append(metrics)
        if time.perf_counter() - began > 60 * minutes:
            raise TimeIsUpError

    with contextlib.suppress(TimeIsUpError):
        loop.run(stage, stage.loop, out, on_log=on_log)
    rate = sum(m.tokens_per_s for m in seen) / len(seen)
    return {"steps": seen[-1].step, "tokens_per_s": round(rate), "loss": seen[-1].loss}


def make_stage(variant: Variant, folder: Path, work: Path) -> Any:
    """Return the stage of a variant; its learning rate rises in 40 steps and then stays."""
    from gnomonic.training.config import read_recipe
    from gnomonic.training.contrastive import ContrastiveConfig, ContrastiveStage
    from gnomonic.training.data.texts import iter_texts
    from gnomonic.training.distill import DistillConfig, DistillStage
    from gnomonic.training.vocabulary import shrink_vocabulary

    model: dict[str, Any] = {}
    if variant.vocabulary:
        teacher = read_recipe(RECIPE, DistillConfig).teacher
        texts = iter_texts([*(DATA / "pairs").glob("*.parquet")], max_chars=300)
        shrink_vocabulary(texts, folder / teacher, work / "tokenizer", size=variant.vocabulary, max_tokens=2048)
        model["tokenizer"] = str((work / "tokenizer").resolve())
    steady = {"schedule": "constant", "warmup_steps": 40, "log_every": 5, "checkpoint_every": 100_000, "workers": 0}
    recipe = read_recipe(RECIPE, DistillConfig, overrides={"loop": steady, "model": model, **variant.overrides})
    if not variant.contrastive:
        return DistillStage(recipe, folder)
    config = ContrastiveConfig(
        loop=recipe.loop, model=recipe.model, data=recipe.data, size_exponent=recipe.size_exponent, dims=recipe.dims,
        chunk_tokens=0, sources=recipe.sources, **BATCH,
    )  # fmt: skip
    return ContrastiveStage(config, folder)


def mlm_start(recipe: Any, minutes: float, folder: Path, out: Path) -> dict[str, Any]:
    """Train masked words for a while, into the weights of the stage."""
    from dataclasses import replace

    from gnomonic.training.mlm import MlmConfig, MlmStage

    loop = replace(recipe.loop, log_every=5)
    config = MlmConfig(loop=loop, model=recipe.model, data=recipe.long_texts, batch_size=64, window_tokens=128)
    stage = MlmStage(config, folder)
    said = train(stage, minutes, out)
    return {"encoder": stage.encoder.model.state_dict(), **said}


def stsb_dev(stage: Any, path: Path) -> float:
    """Return Spearman of cosine on STS-B dev with the weights as they are."""
    import numpy as np
    import torch
    from torch.nn import functional as F

    from gnomonic.evaluation.metrics import spearman
    from gnomonic.models.pooling import mean_pool
    from gnomonic.training.encoders import pack, split_by_length, tokenise

    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    sides = []
    for side in ("sentence1", "sentence2"):
        sequences, _ = tokenise(stage.encoder.tokenizer, ["clustering: " + row[side] for row in rows], 256)
        vectors = torch.empty(len(rows), stage.encoder.spec.hidden_size)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            for chunk in split_by_length([len(ids) for ids in sequences], 8192):
                packed = pack([sequences[i] for i in chunk])
                vectors[chunk] = mean_pool(stage.encoder.model(packed.input_ids, packed.lengths), packed.lengths)
        sides.append(F.layer_norm(vectors, vectors.shape[1:]))
    cosines = F.cosine_similarity(*sides).numpy()
    return round(float(spearman(cosines, np.array([row["score"] for row in rows]))), 4)


def measure(variant: Variant, minutes: float, data: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        stage = make_stage(variant, RECIPE.parent, Path(work))
        if variant.mlm_share:
            start = mlm_start(stage.config, minutes * variant.mlm_share, RECIPE.parent, Path(work) / "mlm")
            stage.encoder.model.load_state_dict(start["encoder"])
        said = train(stage, minutes * (1 - variant.mlm_share), Path(work) / "run")
        return {"variant": variant.label, **said, "stsb_dev": stsb_dev(stage, data / "sts_stsb_dev.jsonl.gz")}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=2.0, help="time of each run")
    parser.add_argument("--data", type=Path, default=DATA / "eval", help="folder with sts_stsb_dev.jsonl.gz")
    parser.add_argument("--only", nargs="*", help="labels of the variants to run; default all")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the result")
    args = parser.parse_args(argv)
    rows = []
    for variant in VARIANTS:
        if args.only and variant.label not in args.only:
            continue
        rows.append(measure(variant, args.minutes, args.data))
        print(json.dumps(rows[-1]), flush=True)
    columns = ["variant", "steps", "tokens_per_s", "loss", "stsb_dev"]
    print_table(f"{args.minutes:g} minutes each", columns, [[row[name] for name in columns] for row in rows])
    publish("train_variants", {"minutes": args.minutes, "rows": rows}, [], args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
