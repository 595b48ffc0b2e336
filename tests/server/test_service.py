"""The service gives the library's vectors, says what it cannot do, and outlives its worker."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gnomonic
from gnomonic.errors import ConfigError, GnomonicError, InputError, TooLargeError, UnavailableError, UnknownModelError
from gnomonic.server.models import ShelfOptions
from gnomonic.server.service import Limits, Service, ServiceOptions
from gnomonic.settings import read_settings
from gnomonic.types import EmbedRequest, LongTextMode, TaskType

_MINI = "gnomonic-embed-text-mini"
_TEXTS = ("A map.", "", "Ein Wal taucht.", "a longer text " * 40)


def _serve(
    scene: Callable[[Service], Coroutine[Any, Any, None]], *models: str, limits: Limits | None = None, **shelf: Any
) -> None:
    async def play() -> None:
        options = ServiceOptions(
            models=models or (_MINI,), limits=limits or Limits(), shelf=ShelfOptions(threads=1, **shelf)
        )
        service = Service(options, read_settings())
        try:
            await service.start()
            await scene(service)
        finally:
            await service.stop()

    asyncio.run(asyncio.wait_for(play(), 100))


def test_vectors_are_the_librarys() -> None:
    async def scene(service: Service) -> None:
        with gnomonic.load(_MINI) as encoder:
            for options in (
                {"task_type": TaskType.SEARCH_QUERY, "dim": None},
                {
                    "task_type": TaskType.CLUSTERING,
                    "dim": 64,
                    "long_text_mode": LongTextMode.MEAN,
                    "max_tokens_per_text": 30,
                },
                {"task_type": TaskType.SEARCH_DOCUMENT, "dim": 128, "max_tokens_per_text": 20},
            ):
                wanted = encoder.encode(_TEXTS, **options)
                answer = await service.embed(EmbedRequest(texts=_TEXTS, model=_MINI, **options))
                found = answer.embeddings
                assert float(np.abs(found.vectors - wanted.vectors).max()) < 1e-6
                assert (found.usage, found.truncated, found.model) == (wanted.usage, wanted.truncated, _MINI)
                assert len(answer.fingerprint) == 16
                assert set(answer.phases) == {"tokenize", "queue", "engine", "finish"}
        none = await service.embed(EmbedRequest(texts=(), model="", dim=64))
        assert none.embeddings.vectors.shape == (0, 64)

    _serve(scene)


def test_what_it_cannot_do_is_said() -> None:
    limits = Limits(max_texts=3, max_request_tokens=100)
    refused: list[tuple[EmbedRequest, type[GnomonicError], str]] = [
        (
            EmbedRequest(texts=("a",), model="other"),
            UnknownModelError,
            "'other' is not served here; there are: gnomonic",
        ),
        (EmbedRequest(texts=("a",) * 4, model=""), TooLargeError, "4 texts, more than the 3"),
        (EmbedRequest(texts=("a b " * 60,), model=""), TooLargeError, "tokens, more than the 100"),
        (
            EmbedRequest(texts=("a",), model="", dim=385),
            InputError,
            "dimensionality 385 is larger than the model's 384",
        ),
        (
            EmbedRequest(texts=(), model="", options={"token_ids": [[1, 2]]}),
            InputError,
            "check_embedding_ctx_length=False",
        ),
    ]

    async def scene(service: Service) -> None:
        for request, kind, message in refused:
            with pytest.raises(kind, match=message):
                await service.embed(request)
        await service.healthy()

    _serve(scene, limits=limits)


def test_token_ids_of_the_vocabulary_when_switched_on() -> None:
    async def scene(service: Service) -> None:
        files = await service.models.read(service.models.find(""))
        (sequence,) = files.tokenizer.encode(["a map"], prefix="search_document: ", max_tokens=64).sequences
        by_ids = EmbedRequest(texts=(), model="", options={"token_ids": [sequence.tolist()]})
        by_text = EmbedRequest(texts=("a map",), model="")
        one, other = [(await service.embed(request)).embeddings.vectors for request in (by_ids, by_text)]
        np.testing.assert_allclose(one, other, atol=1e-6)
        for row in ([], [-1], [10**6], [5] * 5000):
            with pytest.raises(InputError, match=r"input\[0\]"):
                await service.embed(EmbedRequest(texts=(), model="", options={"token_ids": [row]}))

    _serve(scene, limits=Limits(allow_token_ids=True))


def test_a_killed_worker_is_noticed_and_replaced() -> None:
    async def scene(service: Service) -> None:
        before = (await service.embed(EmbedRequest(texts=_TEXTS, model=""))).embeddings.vectors
        tasks = [asyncio.create_task(service.embed(EmbedRequest(texts=_TEXTS, model=""))) for _ in range(100)]
        await asyncio.sleep(0.01)
        assert service.worker.pid is not None
        os.kill(service.worker.pid, signal.SIGKILL)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        answered = [result for result in results if not isinstance(result, BaseException)]
        assert all(isinstance(result, UnavailableError) for result in results if isinstance(result, BaseException))
        assert answered  # those that were not in the worker waited for the next
        for answer in answered:
            np.testing.assert_allclose(answer.embeddings.vectors, before, atol=1e-6)
        await service.healthy()
        assert service.worker.restarts == 1
        assert service.queue.waiting_tokens == 0

    _serve(scene)


def test_the_model_used_longest_ago_makes_room(tiny_checkpoint: Path) -> None:
    async def scene(service: Service) -> None:
        tiny, mini = service.models.find(tiny_checkpoint.name), service.models.find(_MINI)
        assert mini.line is not None
        assert tiny.files is None  # not asked for yet
        await service.embed(EmbedRequest(texts=("a",), model=tiny.name))
        assert mini.line is None
        assert tiny.line is not None
        await service.embed(EmbedRequest(texts=("a",), model=_MINI))
        assert tiny.line is None

    _serve(scene, _MINI, str(tiny_checkpoint), max_model_bytes=1000)


def test_weights_that_change_change_the_fingerprint(make_checkpoint: Callable[..., Path]) -> None:
    folder, other = make_checkpoint(seed=1), make_checkpoint(seed=2)
    request = EmbedRequest(texts=("a cat",), model=folder.name)

    async def scene(service: Service) -> None:
        before = await service.embed(request)
        shutil.copy(other / "model.safetensors", folder / "model.safetensors")
        assert service.worker.pid is not None
        os.kill(service.worker.pid, signal.SIGKILL)
        while service.worker.restarts == 0:
            await asyncio.sleep(0.05)
        after = await service.embed(request)
        assert after.fingerprint != before.fingerprint
        assert float(after.embeddings.vectors[0] @ before.embeddings.vectors[0]) < 0.99

    _serve(scene, _MINI, str(folder))


def test_one_model_that_cannot_be_opened_again_leaves_the_others(make_checkpoint: Callable[..., Path]) -> None:
    folder = make_checkpoint()

    async def scene(service: Service) -> None:
        await service.embed(EmbedRequest(texts=("a",), model=folder.name))
        (folder / "config.json").unlink()
        assert service.worker.pid is not None
        os.kill(service.worker.pid, signal.SIGKILL)
        while service.worker.restarts == 0:
            await asyncio.sleep(0.05)
        await service.embed(EmbedRequest(texts=("a",), model=_MINI))
        with pytest.raises(UnavailableError):
            await service.embed(EmbedRequest(texts=("a",), model=folder.name))
        assert [spec.name for spec in await service.models.described()] == [_MINI]

    _serve(scene, _MINI, str(folder))


def test_a_name_that_no_client_could_use_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rename the folder"):
        _serve(lambda _: asyncio.sleep(0), str(tmp_path / "größe"))


def test_files_that_vanish_are_a_clean_503(make_checkpoint: Callable[..., Path]) -> None:
    tiny_checkpoint = make_checkpoint()

    async def scene(service: Service) -> None:
        (tiny_checkpoint / "config.json").rename(tiny_checkpoint / "gone")
        with pytest.raises(UnavailableError, match=f"model '{tiny_checkpoint.name}' cannot be opened"):
            await service.embed(EmbedRequest(texts=("a",), model=tiny_checkpoint.name))
        await service.embed(EmbedRequest(texts=("a",), model=_MINI))
        (tiny_checkpoint / "gone").rename(tiny_checkpoint / "config.json")
        await service.embed(EmbedRequest(texts=("a",), model=tiny_checkpoint.name))

    _serve(scene, _MINI, str(tiny_checkpoint))
