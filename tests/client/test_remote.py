from __future__ import annotations

import asyncio
import email.utils
import os
import threading
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gnomonic.client.remote import RemoteClient, remote_client
from gnomonic.client.retries import Patience
from gnomonic.errors import (
    AuthenticationError,
    ConfigError,
    GnomonicError,
    InputError,
    PartialFailureError,
    RateLimitError,
    RemoteError,
    RemoteTimeoutError,
    TooLargeError,
    UnknownModelError,
)
from gnomonic.types import EmbedRequest, LongTextMode, TaskType
from tests.client.fake_server import MODEL, FakeServer, Say, vectors_of

KEY = "nk-very-secret-key"
Make = Callable[..., RemoteClient]
Ask = Callable[..., Any]


def _request(*texts: str, **options: Any) -> EmbedRequest:
    return EmbedRequest(texts=texts, model=MODEL, **options)


def _many(count: int) -> EmbedRequest:
    return _request(*(f"text {index}" for index in range(count)))


# -- what is sent and read --------------------------------------------------------------------------------------


def test_the_request_is_the_documented_one(server: FakeServer, make_client: Make, ask: Ask) -> None:
    request = _request(
        "a",
        "naïve 中",
        task_type=TaskType.CLUSTERING,
        dim=8,
        long_text_mode=LongTextMode.MEAN,
        max_tokens_per_text=100,
    )
    found = ask(make_client(KEY), request)
    (asked,) = server.requests
    assert asked.path == "/v1/embedding/text"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.fields == {
        "model": MODEL,
        "texts": ["a", "naïve 中"],
        "task_type": "clustering",
        "dimensionality": 8,
        "long_text_mode": "mean",
        "max_tokens_per_text": 100,
    }
    np.testing.assert_array_equal(found.vectors, vectors_of(["a", "naïve 中"], 8))
    assert found.vectors.dtype == np.float32
    assert (found.model, found.usage.prompt_tokens, found.usage.total_tokens) == (MODEL, 6, 6)


def test_without_a_key_none_is_sent(server: FakeServer, make_client: Make) -> None:
    make_client().embed(_request("a"))
    assert "authorization" not in server.requests[0].headers


def test_no_texts_cost_no_request(server: FakeServer, make_client: Make, ask: Ask) -> None:
    assert ask(make_client(), _request(dim=5)).vectors.shape == (0, 5)
    assert server.requests == []


def test_many_texts_go_in_parts_and_come_back_in_order(server: FakeServer, make_client: Make, ask: Ask) -> None:
    server.slowness_s = 0.01
    late = threading.Event()
    server.on["text 0"].append(Say(waits_for=late, headers={"x-gnomonic-truncated": "3"}))
    server.on["text 640"].append(Say(headers={"x-gnomonic-truncated": "0, 5"}))
    threading.Timer(0.2, late.set).start()
    request = _many(1000)
    found = ask(make_client(), request)
    np.testing.assert_array_equal(found.vectors, vectors_of(request.texts))
    assert sorted(len(asked.fields["texts"]) for asked in server.requests) == [40] + [64] * 15
    assert 2 <= server.busiest <= 8
    assert found.truncated == (3, 640, 645)
    assert found.usage.prompt_tokens == 3000


def test_long_texts_are_spread_over_requests(server: FakeServer, make_client: Make) -> None:
    texts = ["a" * 15_000, "b" * 4_999, "c" * 2, "d" * 50_000, "e"]
    make_client().embed(_request(*texts))
    assert sorted(len(asked.fields["texts"]) for asked in server.requests) == [1, 1, 1, 2]


def test_connections_are_kept(server: FakeServer, make_client: Make) -> None:
    client = make_client()
    for _ in range(5):
        client.embed(_request("a"))
    assert (len(server.requests), server.connections) == (5, 1)


def test_connections_are_kept_within_an_event_loop(server: FakeServer, make_client: Make) -> None:
    client = make_client()

    async def several() -> None:
        for _ in range(5):
            await client.aembed(_request("a"))

    asyncio.run(several())
    assert (len(server.requests), server.connections) == (5, 1)
    asyncio.run(several())  # a new loop opens its own
    assert server.connections == 2
    assert client._loops == {}


def test_after_closing_a_client_works_again(server: FakeServer, make_client: Make) -> None:
    client = make_client()

    async def twice() -> None:
        await client.aembed(_request("a"))
        await client.aclose()
        await client.aembed(_request("a"))

    client.embed(_request("a"))
    client.close()
    client.embed(_request("a"))
    asyncio.run(twice())
    assert server.connections == 4


def test_our_server_is_asked_for_bytes_from_the_second_request_on(
    server: FakeServer, make_client: Make, ask: Ask
) -> None:
    server.is_ours = True
    client = make_client()
    by_json = ask(client, _request("a", "b", dim=8))
    by_bytes = ask(client, _request("a", "b", dim=8))
    assert [asked.headers["accept"] for asked in server.requests] == ["application/json", "application/x-gnomonic-f32"]
    np.testing.assert_array_equal(by_json.vectors, by_bytes.vectors)
    assert by_json.usage == by_bytes.usage
    assert by_bytes.model == MODEL
    by_bytes.vectors[0] = 0  # not a view of the answer's bytes


def test_another_server_at_the_address_is_understood(server: FakeServer, make_client: Make) -> None:
    server.is_ours = True
    client = make_client()
    client.embed(_request("a"))
    server.is_ours = False
    for _ in range(2):
        np.testing.assert_array_equal(client.embed(_request("a")).vectors, vectors_of(["a"]))
    assert server.requests[2].headers["accept"] == "application/json"


def test_a_shortened_list_of_truncated_texts_warns(server: FakeServer, make_client: Make) -> None:
    server.script.append(Say(headers={"x-gnomonic-truncated": "1", "x-gnomonic-truncated-count": "2"}))
    with pytest.warns(UserWarning, match="2 texts were truncated, but the server names only 1"):
        assert make_client().embed(_request("a", "b", "c")).truncated == (1,)


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (Say(body=b"<html>hello</html>"), "unreadable"),
        (Say(body=b""), "unreadable"),
        (Say(body=b"[" * 100_000), "unreadable"),
        (Say(body=b'{"embeddings": [[1'), "unreadable"),
        (Say(json={"embeddings": [[1.0], [1.0, 0.0]], "usage": {}, "model": "m"}), "unreadable"),
        (Say(json={"model": MODEL}), "unreadable"),
        (Say(rows=lambda rows: rows[:1]), "1 vectors for 2 texts"),
        (Say(rows=lambda rows: [*rows, rows[0]]), "3 vectors for 2 texts"),
        (Say(rows=lambda rows: []), "no list of vectors for 2 texts"),
        (Say(rows=lambda rows: rows[0]), "no list of vectors for 2 texts"),
        (Say(rows=lambda rows: [row[:8] for row in rows]), "vectors of 8 values instead of 16"),
        (Say(rows=lambda rows: [rows[0], [None] * 16]), "1 vectors with values that are not finite, the first for te"),
        (Say(rows=lambda rows: [rows[0], [float("nan")] * 16]), "1 vectors with values that are not finite"),
        (Say(rows=lambda rows: [rows[0], [1e200] * 16]), "1 vectors with values that are not finite"),
        (Say(rows=lambda rows: [rows[0], [0.9 * x for x in rows[1]]]), "1 vectors whose length is not 1"),
        (Say(headers={"x-gnomonic-truncated": "2"}), "unreadable"),
        (Say(headers={"x-gnomonic-truncated": "-1"}), "unreadable"),
        (Say(headers={"x-gnomonic-truncated": "secret"}), "unreadable"),
        (Say(headers={"content-encoding": "gzip"}), "unreadable"),
        (Say(headers={"content-type": "application/x-gnomonic-f32"}, body=bytes(128)), "unreadable"),
        (
            Say(
                headers={
                    "content-type": "application/x-gnomonic-f32",
                    "x-gnomonic-rows": "2",
                    "x-gnomonic-dim": "16",
                    "x-gnomonic-prompt-tokens": "1",
                    "x-gnomonic-model": MODEL,
                },
                body=bytes(127),
            ),
            "unreadable",
        ),
        (Say(status=301, headers={"location": "http://127.0.0.1:9/"}, body=b""), "answered 301"),
        (Say(status=404, body=b"<html>"), "answered 404"),
    ],
)
def test_a_wrong_answer_is_refused_and_not_asked_for_again(
    server: FakeServer, make_client: Make, say: Say, message: str
) -> None:
    server.script.append(say)
    with pytest.raises(RemoteError, match=message) as caught:
        make_client().embed(_request("a", "b", dim=16))
    assert type(caught.value) is RemoteError
    assert len(server.requests) == 1


def test_the_width_of_a_known_model_is_checked(server: FakeServer, make_client: Make) -> None:
    with pytest.raises(RemoteError, match="vectors of 16 values instead of 768"):
        make_client().embed(EmbedRequest(texts=("a",), model="nomic-embed-text-v1.5"))


def test_vectors_of_another_model_are_refused(server: FakeServer, make_client: Make) -> None:
    server.model = "nomic-embed-text-v1"
    request = EmbedRequest(texts=("a",), model="nomic-embed-text-v1.5", dim=8)
    with pytest.raises(RemoteError, match=r"vectors of nomic-embed-text-v1 instead of nomic-embed-text-v1\.5"):
        make_client().embed(request)


def test_parts_of_one_call_must_come_from_one_model(server: FakeServer, make_client: Make, ask: Ask) -> None:
    server.is_ours = True
    server.on["text 64"].append(Say(headers={"x-gnomonic-fingerprint": "other"}))
    with pytest.raises(RemoteError, match="different models"):
        ask(make_client(), _many(100))


def test_an_endless_answer_is_cut_off(server: FakeServer, make_client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gnomonic.client.wire.size_limit", lambda rows: 1000)
    server.script.append(Say(body=b"[" + b"1," * 500_000 + b"1]"))
    with pytest.raises(RemoteError, match="unreadable"):
        make_client().embed(_request("a"))


# -- errors -----------------------------------------------------------------------------------------------------

SHAPES: list[Any] = [
    {"detail": "it says why"},
    {"detail": [{"loc": ["body"], "msg": "it says why", "type": "x"}]},
    {"error": "it says why", "error_type": "x"},
    {"error": {"message": "it says\n why", "type": "x", "param": None, "code": None}},
    {"id": "1", "message": "it says why"},
]


@pytest.mark.parametrize("shape", SHAPES, ids=["detail", "list", "error", "openai", "message"])
def test_the_words_of_any_dialect_are_found(server: FakeServer, make_client: Make, shape: Any) -> None:
    server.script.append(Say(status=400, json=shape))
    with pytest.raises(InputError, match=r"the server answered 400: it says why$"):
        make_client().embed(_request("a"))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InputError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, UnknownModelError),
        (408, RemoteTimeoutError),
        (413, TooLargeError),
        (422, InputError),
        (429, RateLimitError),
        (500, RemoteError),
        (504, RemoteTimeoutError),
        (418, RemoteError),
    ],
)
def test_a_status_becomes_an_error_of_ours(
    server: FakeServer, make_client: Make, status: int, kind: type[GnomonicError]
) -> None:
    server.script += [Say(status=status, json=SHAPES[0], headers={"x-request-id": "r-7"})] * 5
    with pytest.raises(kind, match="it says why") as caught:
        make_client().embed(_request("a"))
    assert type(caught.value) is kind
    if isinstance(caught.value, RemoteError):
        assert (caught.value.status, caught.value.request_id) == (status, "r-7")


@pytest.mark.parametrize("body", [b"", b"<html>", b"null", b"[1]", b'{"detail": [1]}', b'{"error": {}}', b"\xff"])
def test_an_error_without_words_still_has_its_kind(server: FakeServer, make_client: Make, body: bytes) -> None:
    server.script.append(Say(status=401, body=body))
    with pytest.raises(AuthenticationError, match=r"the server answered 401$"):
        make_client().embed(_request("a"))


def test_a_model_that_a_strict_server_refuses_is_unknown(server: FakeServer, make_client: Make) -> None:
    detail = [{"loc": ["body", "model"], "msg": "value is not a valid enumeration member", "type": "type_error.enum"}]
    server.script.append(Say(status=422, json={"detail": detail}))
    with pytest.raises(UnknownModelError, match="does not have model 'served-model': model: value is not a valid"):
        make_client().embed(_request("a"))


def test_a_missing_route_says_what_the_address_must_be(server: FakeServer, make_client: Make) -> None:
    server.script.append(Say(status=404, json={"detail": "Not Found"}))
    with pytest.raises(RemoteError) as caught:
        make_client().embed(_request("a"))
    assert caught.value.hint == "there is no /v1/embedding/text at GNOMONIC_API_URL; give the address before that path"


@pytest.mark.parametrize(
    "detail",
    [
        [{"loc": ["body", "texts", 3], "msg": "too long", "type": "x", "input": "a secret text"}],
        "texts[3]: too long",
    ],
)
def test_an_index_in_a_message_is_that_of_the_call(
    server: FakeServer, make_client: Make, ask: Ask, detail: Any
) -> None:
    server.on["text 64"].append(Say(status=422, json={"detail": detail}))
    with pytest.raises(InputError, match=r"texts\[67\]: too long$"):
        ask(make_client(), _many(100))


def test_no_exception_shows_the_key_or_a_text(server: FakeServer, make_client: Make, ask: Ask) -> None:
    text = "the text nobody may see"
    server.script += [
        Say(status=401, json={"detail": f"Bearer {KEY} is not a key"}),
        Say(status=500, body=b"x"),
        Say(drops=True),
        Say(rows=lambda rows: []),
        Say(status=503, body=text.encode()),
    ]
    client = make_client(KEY, patience=Patience(attempts=1))
    for _ in range(5):
        with pytest.raises(GnomonicError) as caught:
            ask(client, _request(text))
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(client)
        assert KEY not in shown
        assert text not in shown
        assert caught.value.__context__ is None or KEY not in repr(caught.value.__context__)


# -- retries ----------------------------------------------------------------------------------------------------


def test_passing_failures_are_retried_with_growing_pauses(
    server: FakeServer, make_client: Make, ask: Ask, pauses: list[float]
) -> None:
    server.script += [Say(status=503, json={}), Say(drops=True), Say(status=502, json={}), Say(cuts=True)]
    found = ask(make_client(jitter=lambda: 1.0), _request("a"))
    assert len(found) == 1
    assert pauses == [0.5, 1.0, 2.0, 4.0]
    assert len(server.requests) == 5


def test_after_five_requests_the_last_failure_is_raised(
    server: FakeServer, make_client: Make, ask: Ask, pauses: list[float]
) -> None:
    server.script += [Say(status=503, json={"detail": "busy"})] * 9
    with pytest.raises(RemoteError, match="answered 503: busy") as caught:
        ask(make_client(), _request("a"))
    assert caught.value.status == 503
    assert (len(server.requests), len(pauses)) == (5, 4)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422])
def test_what_repeating_cannot_mend_is_not_repeated(server: FakeServer, make_client: Make, status: int) -> None:
    server.script += [Say(status=status, json={"detail": "no"})] * 2
    with pytest.raises(GnomonicError):
        make_client().embed(_request("a"))
    assert len(server.requests) == 1


def test_500_is_tried_once_more(server: FakeServer, make_client: Make) -> None:
    server.script += [Say(status=500, json={})] * 3
    with pytest.raises(RemoteError):
        make_client().embed(_request("a"))
    assert len(server.requests) == 2


def test_retry_after_is_honoured(server: FakeServer, make_client: Make, ask: Ask, pauses: list[float]) -> None:
    date = email.utils.format_datetime(email.utils.localtime().replace(microsecond=0))
    server.script += [
        Say(status=429, json={}, headers={"retry-after": "7"}),
        Say(status=503, json={}, headers={"retry-after": "86400"}),
        Say(status=429, json={}, headers={"retry-after": date}),
        Say(status=429, json={}, headers={"retry-after": "soon"}),
    ]
    ask(make_client(), _request("a"))
    assert pauses == [7.0, 60.0, 0.0, 0.0]


def test_a_pause_beyond_the_deadline_is_not_begun(server: FakeServer, make_client: Make, pauses: list[float]) -> None:
    server.script.append(Say(status=429, json={}, headers={"retry-after": "30"}))
    with pytest.raises(RateLimitError):
        make_client(patience=Patience(deadline_s=20)).embed(_request("a"))
    assert pauses == []


def test_nobody_listening_is_tried_as_often_as_asked(make_client: Make, ask: Ask, pauses: list[float]) -> None:
    client = make_client()
    client.url = "http://127.0.0.1:9"
    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        ask(client, _request("a"))
    assert (caught.value.status, len(pauses)) == (None, 4)
    with pytest.raises(RemoteError):
        ask(client, _request("a"), patience=Patience(connect_attempts=1))
    assert len(pauses) == 4


def test_a_silent_server_times_out(server: FakeServer, make_client: Make, ask: Ask) -> None:
    ends = threading.Event()
    server.script.append(Say(waits_for=ends))
    with pytest.raises(RemoteTimeoutError, match=r"was silent for 0\.1 s"):
        ask(make_client(), _request("a"), patience=Patience(read_s=0.1))
    ends.set()
    assert len(server.requests) == 1


def test_the_deadline_ends_a_call(server: FakeServer, make_client: Make, ask: Ask) -> None:
    ends = threading.Event()
    server.script.append(Say(waits_for=ends))
    with pytest.raises(RemoteTimeoutError, match=r"longer than its deadline of 0\.2 s"):
        ask(make_client(), _request("a"), patience=Patience(deadline_s=0.2))
    ends.set()


# -- partial failure --------------------------------------------------------------------------------------------


def test_a_partial_failure_carries_what_succeeded(server: FakeServer, make_client: Make, ask: Ask) -> None:
    server.on["text 64"] += [Say(status=500, json={"detail": "broken"}, headers={"x-request-id": "r-1"})] * 2
    request = _many(200)
    with pytest.raises(PartialFailureError, match=r"64 of 200 texts have no vector: .*500: broken") as caught:
        ask(make_client(), request)
    error = caught.value
    assert list(error.done) == [range(0, 64), range(128, 192), range(192, 200)]
    assert error.failed == (range(64, 128),)
    assert (error.status, error.request_id) == (500, "r-1")
    assert type(error.__cause__) is RemoteError
    for part, vectors in error.done.items():
        np.testing.assert_array_equal(vectors, vectors_of(request.texts[part.start : part.stop]))


def test_a_refused_key_stops_a_call_at_once(server: FakeServer, make_client: Make, ask: Ask) -> None:
    server.script += [Say(status=401, json={})] * 100
    with pytest.raises(AuthenticationError):
        ask(make_client(), _many(64 * 40))
    assert len(server.requests) <= 8


def test_a_server_that_goes_away_keeps_no_part_waiting(server: FakeServer, make_client: Make, ask: Ask) -> None:
    server.script += [Say()] + [Say(drops=True)] * 1000
    with pytest.raises(PartialFailureError) as caught:
        ask(make_client(patience=Patience(attempts=2, in_flight=1)), _many(640))
    assert list(caught.value.done) == [range(0, 64)]
    assert len(caught.value.failed) == 9
    assert len(server.requests) == 3


@pytest.mark.timeout(40)  # the pause is longer
def test_a_waiting_part_wakes_when_the_call_is_given_up(server: FakeServer, make_client: Make, ask: Ask) -> None:
    server.on["text 0"].append(Say(status=429, json={}, headers={"retry-after": "50"}))
    server.on["text 64"].append(Say(status=401, json={}))
    server.slowness_s = 0.05
    with pytest.raises(AuthenticationError):
        ask(make_client(sleep=None, async_sleep=None), _many(128))
    assert len(server.requests) == 2


# -- addresses and keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://host",
        "file:///etc",
        "http://",
        "http://h:99999",
        "http://[::1",
        "https://h?x=1",
        "//h",
    ],
)
def test_an_unusable_address_says_how_to_set_it(url: str) -> None:
    with pytest.raises(ConfigError, match="GNOMONIC_API_URL"):
        RemoteClient(url)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="put the key into GNOMONIC_API_KEY") as caught:
        RemoteClient(f"https://user:{KEY}@host")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/", "/gnomonic", "/gnomonic/v1"])
def test_the_route_is_put_behind_the_address(server: FakeServer, tail: str) -> None:
    client = RemoteClient(server.url + tail)
    client.embed(_request("a"))
    client.close()
    assert server.requests[0].path == ("/gnomonic" if "gnomonic" in tail else "") + "/v1/embedding/text"


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel", "\x00"])
def test_a_key_no_header_can_carry_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="GNOMONIC_API_KEY") as caught:
        RemoteClient("https://host", key)
    assert key not in str(caught.value)


def test_white_space_around_a_key_is_dropped(server: FakeServer, make_client: Make) -> None:
    make_client(f" {KEY}\n").embed(_request("a"))
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "host", ["http://embed.example.org", "http://192.168.0.7:8000", "http://localhost.example.org"]
)
def test_a_key_in_clear_over_a_network_warns(host: str) -> None:
    with pytest.warns(UserWarning, match="unencrypted") as caught:
        RemoteClient(host, KEY)
    assert KEY not in str(caught[0].message)


@pytest.mark.parametrize(
    "host", ["https://embed.example.org", "http://localhost", "http://127.9.9.9", "http://[::1]:8"]
)
def test_a_key_over_tls_or_the_loopback_does_not_warn(host: str) -> None:
    RemoteClient(host, KEY)


def test_a_client_is_kept_for_each_address_and_key(server: FakeServer) -> None:
    first = remote_client(server.url, "a")
    assert remote_client(server.url, "a") is first
    assert remote_client(server.url, "b") is not first


# -- threads, tasks, processes ----------------------------------------------------------------------------------


def test_many_threads_share_a_client(server: FakeServer, make_client: Make) -> None:
    client = make_client()
    found: dict[int, Any] = {}

    def embed(index: int) -> None:
        found[index] = client.embed(_request(*(f"{index} {n}" for n in range(70)))).vectors

    threads = [threading.Thread(target=embed, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(8):
        np.testing.assert_array_equal(found[index], vectors_of([f"{index} {n}" for n in range(70)]))


def test_many_tasks_share_a_client(server: FakeServer, make_client: Make) -> None:
    client = make_client()

    async def embed() -> list[Any]:
        return await asyncio.gather(*(client.aembed(_request(f"{index}")) for index in range(20)))

    found = asyncio.run(embed())
    np.testing.assert_array_equal(
        np.concatenate([one.vectors for one in found]), vectors_of([str(i) for i in range(20)])
    )


def test_a_cancelled_call_leaves_the_client_usable(server: FakeServer, make_client: Make) -> None:
    client, ends = make_client(), threading.Event()
    server.script += [Say(waits_for=ends)] * 2

    async def cancel() -> int:
        task = asyncio.create_task(client.aembed(_many(100)))
        while server.busy < 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return len(await client.aembed(_request("a")))

    assert asyncio.run(cancel()) == 1
    ends.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_opens_its_own_connection(server: FakeServer, make_client: Make) -> None:
    client = make_client()
    client.embed(_request("a"))
    with client._lock:  # another thread may hold it at the moment of the fork
        child = os.fork()
        if child == 0:
            code = 1
            try:
                found = client.embed(_request("child"))
                code = 0 if np.array_equal(found.vectors, vectors_of(["child"])) else 2
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(client.embed(_request("b")).vectors, vectors_of(["b"]))
    first, in_child, after = (asked.connection for asked in server.requests)
    assert first == after != in_child
