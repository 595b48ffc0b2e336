from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gnomonic import embed
from gnomonic.client.choose import Speed
from gnomonic.client.route import Route
from gnomonic.client.speeds import Speeds, local_key, remote_key, speeds_in
from gnomonic.errors import (
    AuthenticationError,
    CheckpointError,
    ConfigError,
    InputError,
    PartialFailureError,
    RemoteError,
    UnknownModelError,
)
from gnomonic.inference.threads import usable_cpus
from tests.client.fake_server import FakeServer, Say, vectors_of

MINI = "gnomonic-embed-text-mini"
SLOW = Speed(call_s=100.0, tokens_per_s=0.01, calls=9)
FAST = Speed(call_s=0.0001, tokens_per_s=1e6, calls=9)
Text = Callable[..., Any]


@pytest.fixture(params=["text", "atext"])
def text(request: pytest.FixtureRequest) -> Text:
    """embed.text, and embed.atext run to its end."""
    if request.param == "text":
        return embed.text

    async def run(call: Awaitable[Any]) -> Any:
        return await call

    return lambda *arguments, **options: asyncio.run(run(embed.atext(*arguments, **options)))


@pytest.fixture
def speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Speeds:
    """What is known of speeds: nothing."""
    monkeypatch.setenv("GNOMONIC_CACHE", str(tmp_path))
    return speeds_in(tmp_path)


@pytest.fixture
def configured(server: FakeServer, speeds: Speeds, monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    """The server at GNOMONIC_API_URL, with vectors of the bundled model's width."""
    monkeypatch.setenv("GNOMONIC_API_URL", server.url)
    server.dim = 384
    return server


@pytest.fixture
def nobody(speeds: Speeds, monkeypatch: pytest.MonkeyPatch) -> str:
    """GNOMONIC_API_URL names a port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    monkeypatch.setenv("GNOMONIC_API_URL", url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("gnomonic.client.remote._kept", {})
    return url


def _here(speeds: Speeds, speed: Speed, model: str = MINI) -> None:
    speeds._speeds[local_key(model, None, usable_cpus())] = _now(speeds, speed)


def _there(speeds: Speeds, url: str, speed: Speed, model: str = MINI) -> None:
    speeds._speeds[remote_key(url, model)] = _now(speeds, speed)


def _forget(speeds: Speeds) -> None:
    speeds._speeds.clear()
    speeds._fresh.clear()


def _now(speeds: Speeds, speed: Speed) -> Speed:
    return replace(speed, measured_at=speeds._clock())


# -- remote -----------------------------------------------------------------------------------------------------


def test_remote_asks_the_server_and_says_so(
    configured: FakeServer, text: Text, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNOMONIC_API_KEY", "nk-1")
    configured.script.append(Say(headers={"x-gnomonic-truncated": "1"}))
    found = text(["a", "b"], inference_mode="remote")
    assert list(found) == ["embeddings", "usage", "model", "inference_mode", "truncated"]
    np.testing.assert_array_equal(found["embeddings"], vectors_of(["a", "b"], 384))
    assert (found["model"], found["inference_mode"], found["truncated"]) == (MINI, "remote", [1])
    assert found["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert configured.requests[0].headers["authorization"] == "Bearer nk-1"
    assert opened == []


def test_options_reach_the_server(configured: FakeServer, text: Text) -> None:
    found = text(
        (word for word in ("a", "b")),
        model="nomic-ai/nomic-embed-text-v1.5",
        task_type="search_query",
        dimensionality=np.int64(64),
        long_text_mode="mean",
        max_tokens_per_text=np.int32(100),
        inference_mode="remote",
    )
    assert configured.requests[0].fields == {
        "model": "nomic-embed-text-v1.5",
        "texts": ["a", "b"],
        "task_type": "search_query",
        "dimensionality": 64,
        "long_text_mode": "mean",
        "max_tokens_per_text": 100,
    }
    assert found["embeddings"].shape == (2, 64)


def test_a_name_that_only_the_server_knows_is_sent(configured: FakeServer) -> None:
    found = embed.text(["a"], model="gte-multilingual-base", inference_mode="remote")
    assert configured.requests[0].fields["model"] == found["model"] == "gte-multilingual-base"


def test_no_texts_are_an_empty_array(configured: FakeServer, text: Text) -> None:
    assert text([], inference_mode="remote")["embeddings"].shape == (0, 384)
    assert configured.requests == []


@pytest.mark.parametrize("model", [Path("m"), "./m", "../m", "~/m", "/m", "a/b", "nomic-ai/a/b", "a\\b"])
def test_a_folder_cannot_be_asked_for(configured: FakeServer, text: Text, model: Any) -> None:
    with pytest.raises(InputError, match="is a folder of this machine, which a server cannot open"):
        text(["a"], model=model, inference_mode="remote")
    assert configured.requests == []


@pytest.mark.parametrize("model", ["", " ", "a\0b", "\ud800", "nomic-embed-vision-v1.5", None, 3])
def test_what_is_no_text_model_is_not_sent(configured: FakeServer, model: Any) -> None:
    with pytest.raises(InputError):
        embed.text(["a"], model=model, inference_mode="remote")
    assert configured.requests == []


def test_a_device_is_the_servers_own_affair(configured: FakeServer, text: Text) -> None:
    with pytest.raises(InputError, match="device 'cpu' cannot be used with inference_mode 'remote'"):
        text(["a"], device="cpu", inference_mode="remote")


@pytest.mark.parametrize(
    "bad",
    [
        {"texts": "one string"},
        {"texts": ["a", None]},
        {"texts": ["\ud800"]},
        {"texts": ["a"], "task_type": "other"},
        {"texts": ["a"], "dimensionality": 0},
        {"texts": ["a"], "dimensionality": "64"},
        {"texts": ["a"], "dimensionality": True},
        {"texts": ["a"], "dimensionality": 385},
        {"texts": ["a"], "dimensionality": 8193, "model": "other"},
        {"texts": ["a"], "long_text_mode": "chunk"},
        {"texts": ["a"], "max_tokens_per_text": 0},
    ],
)
def test_bad_input_is_refused_before_it_is_sent(configured: FakeServer, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        embed.text(**bad, inference_mode="remote")
    assert configured.requests == []


def test_a_size_below_the_trained_ones_warns_at_the_callers_line(configured: FakeServer) -> None:
    with pytest.warns(UserWarning, match="dimensionality 7 is below 64") as caught:
        embed.text(["a"], dimensionality=7, inference_mode="remote")
    assert caught[0].filename == __file__


def test_remote_does_not_fall_back(configured: FakeServer, text: Text, opened: list[Any]) -> None:
    configured.script.append(Say(status=404, json={"detail": "no such model"}))
    with pytest.raises(UnknownModelError, match="the server does not have model"):
        text(["a"], inference_mode="remote")
    assert opened == []


def test_an_unusable_address_is_named(text: Text, speeds: Speeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GNOMONIC_API_URL", "localhost:8000")
    with pytest.raises(ConfigError, match="GNOMONIC_API_URL"):
        text(["a"], inference_mode="remote")


# -- dynamic ----------------------------------------------------------------------------------------------------


def test_dynamic_goes_where_it_is_predicted_to_end_first(
    configured: FakeServer, text: Text, opened: list[Any], speeds: Speeds
) -> None:
    _here(speeds, FAST)
    _there(speeds, configured.url, SLOW)
    assert text(["a"])["inference_mode"] == "local"
    assert configured.requests == []
    _here(speeds, SLOW)
    _there(speeds, configured.url, FAST)
    assert text(["a"])["inference_mode"] == "remote"
    assert len(configured.requests) == 1


def test_a_server_never_asked_is_tried_for_much_work_and_a_closed_model(
    configured: FakeServer, opened: list[Any], speeds: Speeds
) -> None:
    assert embed.text(["a"])["inference_mode"] == "remote"
    _forget(speeds)
    embed.text(["a"], inference_mode="local")
    _forget(speeds)
    assert embed.text(["a"])["inference_mode"] == "local"
    _forget(speeds)
    assert embed.text(["word " * 2000] * 200)["inference_mode"] == "remote"


def test_every_call_teaches(configured: FakeServer, text: Text, opened: list[Any], speeds: Speeds) -> None:
    here, there = local_key(MINI, None, usable_cpus()), remote_key(configured.url, MINI)
    text(["a"], inference_mode="remote")
    assert set(speeds._speeds) == {there}
    text(["a"], inference_mode="local")
    first = speeds._speeds[here]
    assert (first.calls, speeds._speeds[there].calls) == (1, 1)
    text(["a"], inference_mode="local")
    assert speeds._speeds[here].calls == 2
    assert speeds._speeds[here].open_s == first.open_s
    text([], inference_mode="local")
    assert speeds._speeds[here].calls == 2


def test_without_a_server_nothing_is_measured(opened: list[Any], speeds: Speeds, tmp_path: Path) -> None:
    embed.text(["a"])
    embed.text(["a"], inference_mode="local")
    assert speeds._speeds == {}
    assert list(tmp_path.iterdir()) == []


def test_a_failed_call_teaches_nothing(configured: FakeServer, opened: list[Any], speeds: Speeds) -> None:
    configured.script.append(Say(status=401, json={}))
    with pytest.raises(AuthenticationError):
        embed.text(["a"], inference_mode="remote")
    with pytest.raises(InputError):
        embed.text(["a"], dimensionality=0, inference_mode="local")
    assert speeds._speeds == {}


@pytest.mark.parametrize("options", [{"device": "cpu"}, {"model": Path("folder")}, {"model": "./folder"}])
def test_a_device_or_a_folder_stays_here(
    configured: FakeServer, text: Text, opened: list[Any], speeds: Speeds, options: dict[str, Any]
) -> None:
    _here(speeds, SLOW)
    assert text(["a"], **options)["inference_mode"] == "local"
    assert configured.requests == []


def test_a_folder_named_like_a_model_stays_here(
    configured: FakeServer, opened: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert embed.text(["a"], model="mine")["inference_mode"] == "local"
    assert embed.text(["a"], model="x" * 5000)["inference_mode"] == "remote"


def test_a_model_that_cannot_be_had_here_goes_to_the_server(
    configured: FakeServer, text: Text, speeds: Speeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNOMONIC_OFFLINE", "1")
    for model in ("nomic-embed-text-v1.5", "only-there"):
        _there(speeds, configured.url, SLOW, model)
        speeds.shun(configured.url, 60)
        assert text(["a"], model=model, dimensionality=64)["inference_mode"] == "remote"
    configured.script.append(Say(status=404, json={"detail": "no such model"}))
    with pytest.raises(UnknownModelError):
        text(["a"], model="nowhere")


@pytest.mark.filterwarnings("ignore:dimensionality 32 is below 64")
def test_a_model_that_arrives_later_is_noticed(
    configured: FakeServer, opened: list[Any], speeds: Speeds, tmp_path: Path
) -> None:
    name, ten_seconds = "nomic-embed-text-v1.5", Speed(call_s=10.0, tokens_per_s=1e6)
    ask = {"model": name, "dimensionality": 32}
    _here(speeds, FAST, name)
    _there(speeds, configured.url, ten_seconds, name)
    assert embed.text(["a"], **ask)["inference_mode"] == "remote"
    _there(speeds, configured.url, ten_seconds, name)
    (tmp_path / "models" / "nomic-embed-text-v1.5").mkdir(parents=True)
    (tmp_path / "models" / "nomic-embed-text-v1.5" / "config.json").write_text("{}")
    assert embed.text(["a"], **ask)["inference_mode"] == "local"


def test_a_model_that_would_have_to_be_downloaded_goes_to_the_server_for_little_work(configured: FakeServer) -> None:
    configured.dim = 768
    assert embed.text(["a"], model="nomic-embed-text-v1.5")["inference_mode"] == "remote"


def test_a_server_that_is_away_is_left_alone_for_a_minute(
    nobody: str, text: Text, opened: list[Any], speeds: Speeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = speeds._clock()
    monkeypatch.setattr(speeds, "_clock", lambda: now)
    _here(speeds, SLOW)
    with pytest.warns(UserWarning, match="on this machine for 60 s: .* cannot be reached") as caught:
        found = text(["a"])
    assert (found["inference_mode"], len(found["embeddings"])) == ("local", 1)
    assert inspect.getfile(test_remote_does_not_fall_back) == caught[0].filename
    assert text(["b"])["inference_mode"] == "local"  # a warning would be an error here
    now += 61
    with pytest.warns(UserWarning, match="cannot be reached"):
        text(["c"])


def test_remote_mode_asks_a_server_that_was_away(nobody: str, speeds: Speeds, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds.shun(nobody, 60)
    monkeypatch.setattr("threading.Event.wait", lambda self, timeout=None: True)
    with pytest.raises(RemoteError, match="cannot be reached"):
        embed.text(["a"], inference_mode="remote")


def test_a_server_without_the_model_is_not_asked_for_it_again(
    configured: FakeServer, text: Text, opened: list[Any], speeds: Speeds
) -> None:
    _here(speeds, SLOW)
    _here(speeds, SLOW, "nomic-embed-text-v1.5")
    configured.script.append(Say(status=404, json={"detail": "no such model"}))
    with pytest.warns(UserWarning, match="does not have model"):
        assert text(["a"])["inference_mode"] == "local"
    assert text(["a"])["inference_mode"] == "local"
    assert len(configured.requests) == 1
    assert text(["a"], model="nomic-embed-text-v1.5", dimensionality=64)["inference_mode"] == "remote"


@pytest.mark.parametrize(
    ("say", "kind"),
    [
        (Say(status=401, json={}), AuthenticationError),
        (Say(status=422, json={"detail": "bad"}), InputError),
        (Say(body=b"what"), RemoteError),
        (Say(status=404, body=b""), RemoteError),
    ],
)
def test_dynamic_does_not_hide_what_the_user_should_mend(
    configured: FakeServer, text: Text, opened: list[Any], speeds: Speeds, say: Say, kind: type[Exception]
) -> None:
    _here(speeds, SLOW)
    configured.script.append(say)
    with pytest.raises(kind):
        text(["a"])
    assert opened == []


def test_dynamic_throws_no_finished_work_away(
    configured: FakeServer, text: Text, opened: list[Any], speeds: Speeds
) -> None:
    _here(speeds, SLOW)
    configured.on["64"].append(Say(body=b"what"))
    with pytest.raises(PartialFailureError) as caught:
        text([str(index) for index in range(100)])
    assert list(caught.value.done) == [range(0, 64)]


def test_dynamic_does_not_go_to_the_server_when_this_machine_fails(
    configured: FakeServer, opened: list[Any], speeds: Speeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise CheckpointError("damaged")

    monkeypatch.setattr("gnomonic.inference.load.load", broken)
    _here(speeds, FAST)
    _there(speeds, configured.url, SLOW)
    with pytest.raises(CheckpointError):
        embed.text(["a"])
    assert configured.requests == []


def test_what_is_learnt_turns_the_choice(
    configured: FakeServer, text: Text, opened: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: the server takes 30 s a call; its prior wins once, then never."""
    learn = Route._learn_remote
    monkeypatch.setattr(Route, "_learn_remote", lambda self, seconds: learn(self, 30.0))
    assert [text(["a"])["inference_mode"] for _ in range(4)] == ["remote", "local", "local", "local"]


# -- the asynchronous one ---------------------------------------------------------------------------------------


def test_both_take_the_same_arguments() -> None:
    assert inspect.signature(embed.text).parameters == inspect.signature(embed.atext).parameters


def test_local_work_does_not_hold_up_the_loop(opened: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from gnomonic.client import local

    ready = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    encoder = local.text_encoder(MINI)
    encode = encoder.encode

    def waiting(*arguments: Any, **options: Any) -> Any:
        asyncio.run_coroutine_threadsafe(ready.wait(), loops[0]).result(20)
        return encode(*arguments, **options)

    monkeypatch.setattr(encoder, "encode", waiting)

    async def both() -> Any:
        loops.append(asyncio.get_running_loop())
        task = asyncio.create_task(embed.atext(["a"]))
        await asyncio.sleep(0.01)
        ready.set()
        return await task

    assert asyncio.run(both())["inference_mode"] == "local"


def test_many_tasks_at_once(configured: FakeServer) -> None:
    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(embed.atext([str(i)], inference_mode="remote") for i in range(10)))

    found = asyncio.run(all_of_them())
    expected = vectors_of([str(i) for i in range(10)], 384)
    np.testing.assert_array_equal(np.concatenate([one["embeddings"] for one in found]), expected)


# -- weight -----------------------------------------------------------------------------------------------------


def test_local_calls_load_no_http_and_remote_ones_no_runtime(
    server: FakeServer, tmp_path: Path, run_python: Callable[..., None]
) -> None:
    run_python(
        "import os, sys\n"
        "from gnomonic import embed\n"
        "embed.text\n"
        "assert 'httpx' not in sys.modules\n"
        "os.environ.update(GNOMONIC_API_URL=sys.argv[1], GNOMONIC_CACHE=sys.argv[2], NO_PROXY='127.0.0.1')\n"
        "assert embed.text(['a'], dimensionality=64, inference_mode='remote')['inference_mode'] == 'remote'\n"
        "assert not {'onnxruntime', 'onnx', 'torch', 'PIL', 'huggingface_hub'} & set(sys.modules)\n",
        server.url,
        tmp_path,
    )
