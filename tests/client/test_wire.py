from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from gnomonic.client.wire import Reply, error_of, split
from gnomonic.errors import GnomonicError
from gnomonic.types import EmbedRequest

REQUEST = EmbedRequest(texts=("a",), model="m")


@given(st.lists(st.integers(0, 30_000).map("x".__mul__), max_size=200))
def test_parts_cover_the_texts_in_order_within_their_bounds(texts: list[str]) -> None:
    parts = split(texts)
    assert [index for part in parts for index in part] == list(range(len(texts)))
    for part in parts:
        assert 1 <= len(part) <= 64
        assert len(part) == 1 or sum(len(texts[index]) for index in part) <= 20_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["detail", "error", "message", "loc", "msg"]), inner)
    ),
)


@given(st.binary() | _JSON.map(lambda value: json.dumps(value).encode()), st.integers(201, 599))
def test_any_body_of_any_status_is_some_error(body: bytes, status: int) -> None:
    error = error_of(Reply(status=status, headers={}, body=body), REQUEST, range(1), "key")
    assert isinstance(error, GnomonicError)
    assert len(str(error)) < 500
