from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from gnomonic.evaluation.page import html, plot
from gnomonic.evaluation.report import lines, markdown, to_json
from gnomonic.evaluation.run import BM25, Outcome, Subject


def _outcome(task: str, protocol: str = "cosine", **scores: float) -> Outcome:
    metric = {"ret": "ndcg_at_10", "sts": "spearman"}[task.partition("_")[0]]
    by_dim = {int(dim.removeprefix("d")): {metric: value} for dim, value in scores.items()}
    return Outcome(task=task, kind=task.partition("_")[0], protocol=protocol, scores=by_dim, seconds=1.5)


@pytest.fixture
def judged() -> list[tuple[Subject, list[Outcome]]]:
    ours = Subject(name="ours<1>", dims=(64, 8), fingerprint="f")
    peer = Subject(name="peer", dims=(48,))
    own = [
        _outcome("sts_a", d64=0.8, d8=0.6), _outcome("ret_b", d64=0.5, d8=0.2), _outcome("ret_c", d64=0.3, d8=0.1),
    ]  # fmt: skip
    return [
        (ours, own),
        (peer, [_outcome("sts_a", d48=0.7), _outcome("ret_b", d48=0.4), _outcome("ret_c", d48=0.4)]),
        (BM25, [_outcome("ret_b", "BM25", d0=0.45), _outcome("ret_c", "BM25", d0=0.2)]),
    ]  # fmt: skip


def test_every_task_counts_once_in_the_mean(judged: list[tuple[Subject, list[Outcome]]]) -> None:
    full, small, peer, bm25 = lines(judged)
    assert full.mean == pytest.approx((0.8 + 0.5 + 0.3) / 3)
    assert small.mean == pytest.approx(0.3)
    assert peer.mean == pytest.approx(0.5)
    assert full.kinds == {"ret": pytest.approx(0.4), "sts": pytest.approx(0.8)}
    assert bm25.mean is None
    assert bm25.kinds == {"ret": pytest.approx(0.325)}


def test_the_markdown_page_shows_each_task_at_the_largest_size(judged: list[tuple[Subject, list[Outcome]]]) -> None:
    page = markdown(judged, {"device": "cpu", "left_out": {}})
    (row,) = re.findall(r"^\| ret_b .*$", page, flags=re.MULTILINE)
    assert row == "| ret_b | ndcg_at_10 | 50.00 | 40.00 | 45.00 |"
    assert "| ours<1> | fp32 | 8 | 30.00 | 15.00 | 60.00 |" in page
    assert "* cosine: ret_b, ret_c, sts_a" in page


def test_the_data_hold_every_score(judged: list[tuple[Subject, list[Outcome]]]) -> None:
    found = to_json(judged, {"few_shot": 0})
    assert found["settings"] == {"few_shot": 0}
    assert found["lines"][3] == {
        "model": "bm25", "precision": "", "dim": 0, "mean": None, "kinds": {"ret": 0.325},
        "tasks": {"ret_b": 0.45, "ret_c": 0.2},
    }  # fmt: skip
    assert found["outcomes"][0]["scores"] == {"64": {"spearman": 0.8}, "8": {"spearman": 0.6}}


def test_the_plot_is_drawn_from_the_means(judged: list[tuple[Subject, list[Outcome]]]) -> None:
    drawn = ET.fromstring(plot(lines(judged)))
    circles = [element for element in drawn.iter() if element.tag.endswith("circle")]
    assert [element[0].text for element in circles] == [
        "ours<1> fp32, 8 dimensions: 30.00",
        "ours<1> fp32, 64 dimensions: 53.33",
        "peer fp32, 48 dimensions: 50.00",
    ]
    small, full, peer = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in circles]
    assert small[0] < peer[0] < full[0]
    assert full[1] < peer[1] < small[1]
    assert plot([]) == ""


def test_the_page_stands_alone_and_escapes_names(judged: list[tuple[Subject, list[Outcome]]]) -> None:
    page = html(judged, {"device": "cpu"})
    tags: list[str] = []

    class _Collect(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not {"src", "href"} & {name for name, _ in attrs}

    _Collect().feed(page)
    assert "script" not in tags
    assert {"svg", "table", "h1", "h2"} <= set(tags)
    assert "ours<1>" not in page
    assert page.count("ours&lt;1&gt;") > 2
