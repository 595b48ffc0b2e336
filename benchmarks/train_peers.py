"""The trainers under test, each in a process of its own.

`python -m benchmarks.train_peers NAME CASE.json` trains in rounds of so many steps. After each round it prints one
JSON object with what the round took, and waits for a line before the next; so trainers are measured in turn, and what
either holds between rounds is held by both. Both see the same pairs in the same order, start from the same weights,
multiply in bf16 under autocast, and step AdamW at the same constant rate.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "main"]

Case = dict[str, Any]


class _Rounds:
    """Measures rounds, and waits between them."""

    def __init__(self, case: Case) -> None:
        self.size: int = case["steps_per_round"]
        self.losses: list[float] = []
        # What libraries print goes to the log, not among the reports.
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._mark()

    def _mark(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def step(self, loss: float) -> None:
        """Count a step; at the end of a round report it and wait."""
        self.losses.append(loss)
        if len(self.losses) == self.size:
            self.end(self.losses)
            self.losses = []

    def end(self, losses: list[float]) -> None:
        """Report a round of these losses and wait."""
        self.report({"losses": losses})

    def report(self, result: dict[str, Any]) -> None:
        """Print what happened since the last line was read, and read the next."""
        seconds, cpu_seconds = time.perf_counter() - self.wall, time.process_time() - self.cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer = {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_rss_bytes": peak, **result}
        self.out.write(json.dumps(answer) + "\n")
        self.out.flush()
        if not sys.stdin.readline():
            sys.exit(0)
        self._mark()


def _stage(case: Case) -> Any:
    from gnomonic.training.config import LoopConfig, ModelConfig
    from gnomonic.training.contrastive import ContrastiveConfig, ContrastiveStage

    config = ContrastiveConfig(
        loop=LoopConfig(
            max_steps=case["steps"],
            learning_rate=case["learning_rate"],
            schedule="constant",
            autocast="bf16",
            # Batches made while the process waits for its turn would cost nothing; so none is made ahead.
            workers=0,
            log_every=case["steps_per_round"],
            checkpoint_every=case["steps"],
        ),
        model=ModelConfig(init=case["model"]),
        data=(case["pairs"],),
        batch_size=case["batch_size"],
        query_tokens=case["max_tokens"],
        document_tokens=case["max_tokens"],
        negatives_per_query=case["negatives"],
        temperature=case["temperature"],
        dims=(case["hidden_size"],),
    )
    return ContrastiveStage(config, Path(case["folder"]))


def _gnomonic(case: Case) -> None:
    from gnomonic.training import loop

    stage = _stage(case)
    rounds, plain = _Rounds(case), stage.backward
    tokens = [stage.tokens(stage.batch(step)) for step in range(case["steps"])]
    rounds.report({"tokens": tokens})

    def backward(batch: Any) -> float:
        losses.append(plain(batch))
        return losses[-1]

    def on_log(metrics: Any) -> None:
        # After the round's last optimiser step, and before the checkpoint that the peer does not write either.
        assert metrics.step % case["steps_per_round"] == 0
        rounds.end(losses[:])
        losses.clear()

    losses: list[float] = []
    stage.backward = backward
    loop.run(stage, stage.loop, Path(case["out"]), on_log=on_log)


def _sentence_transformers(mini_batch_size: int) -> Callable[[Case], None]:
    def train(case: Case) -> None:
        from datasets import Dataset
        from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
        from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
        from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
        from torch.utils.data import BatchSampler, SequentialSampler
        from transformers import TrainerCallback

        columns, batches = _columns(case)
        model = SentenceTransformer(case["model"], device="cpu")
        model.max_seq_length = case["max_tokens"]
        rounds = _Rounds(case)
        rounds.report({"tokens": [_count(model, batch) for batch in batches]})

        class Trainer(SentenceTransformerTrainer):  # type: ignore[misc]
            """The trainer, with rows in their order."""

            def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> BatchSampler:
                return BatchSampler(SequentialSampler(dataset), batch_size, drop_last)

            def training_step(self, *arguments: Any, **options: Any) -> Any:
                if pending:
                    rounds.step(pending.pop())
                value = super().training_step(*arguments, **options)
                pending.append(float(value))
                return value

        class Last(TrainerCallback):  # type: ignore[misc]
            """The end of the last round."""

            def on_train_end(self, *_: Any, **__: Any) -> None:
                rounds.step(pending.pop())

        pending: list[float] = []
        loss = CachedMultipleNegativesRankingLoss(model, scale=1 / case["temperature"], mini_batch_size=mini_batch_size)
        settings = Arguments(
            output_dir=case["out"],
            per_device_train_batch_size=case["batch_size"],
            max_steps=case["steps"],
            learning_rate=case["learning_rate"],
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            adam_beta2=0.98,
            adam_epsilon=1e-6,
            weight_decay=0.01,
            max_grad_norm=1.0,
            bf16=True,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        Trainer(
            model=model, args=settings, train_dataset=Dataset.from_dict(columns), loss=loss, callbacks=[Last()]
        ).train()

    return train


def _columns(case: Case) -> tuple[dict[str, list[str]], list[list[str]]]:
    """Return the pairs as the gnomonic run meets them: as columns, and as all texts of each step."""
    schedule = _stage(case).schedule
    names = ["anchor", "positive", *(f"negative_{i}" for i in range(case["negatives"]))]
    columns: dict[str, list[str]] = {name: [] for name in names}
    batches = []
    for step in range(case["steps"]):
        pairs = schedule.batch(step)
        parts = [pairs.queries, pairs.documents, *map(list, zip(*pairs.negatives, strict=True))]
        for name, part in zip(names, parts, strict=True):
            columns[name] += part
        batches.append([text for part in parts for text in part])
    return columns, batches


def _count(model: Any, texts: list[str]) -> int:
    tokenizer = model.tokenizer
    return sum(len(ids) for ids in tokenizer(texts, truncation=True, max_length=model.max_seq_length)["input_ids"])


PEERS: dict[str, Callable[[Case], None]] = {
    "gnomonic": _gnomonic,
    "st-32": _sentence_transformers(32),
    "st-128": _sentence_transformers(128),
}
"""Name → trainer; sentence-transformers' at its default mini-batch, 32 texts, and at a larger one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("case", type=Path)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    PEERS[arguments.name](json.loads(arguments.case.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
