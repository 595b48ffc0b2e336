"""Which answers are packed, and for whom."""

from __future__ import annotations

import gzip

import pytest

from gnomonic.server.atlas.call import Call, data, said
from gnomonic.server.atlas.packing import packed

_LARGE = {"names": ["a name"] * 2000}


def _call(accepted: str) -> Call:
    return Call(organization="local", headers={"accept-encoding": accepted} if accepted else {})


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip;q=0.5", "GZIP", "deflate,gzip ; q=1"])
def test_large_json_is_packed(accepted: str) -> None:
    plain = bytes(said(_LARGE).body)
    answer = packed(_call(accepted), said(_LARGE, headers={"etag": '"x"'}))
    assert gzip.decompress(bytes(answer.body)) == plain
    assert len(bytes(answer.body)) < len(plain) / 5
    assert answer.headers["content-length"] == str(len(bytes(answer.body)))
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "accept-encoding")
    assert answer.headers["etag"] == 'W/"x"'


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "gzip; q=0.0", "xgzip", "identity"])
def test_others_get_it_as_it_is(accepted: str) -> None:
    answer = packed(_call(accepted), said(_LARGE))
    assert bytes(answer.body) == bytes(said(_LARGE).body)
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "accept-encoding"


def test_what_is_small_or_no_json_stays() -> None:
    for answer in (said({"a": 1}), data(b"\x00" * 100_000)):
        assert packed(_call("gzip"), answer) is answer
        assert "content-encoding" not in answer.headers
