"""Topics: named by their texts, by labels, by an endpoint or by number; never two alike."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gnomonic.atlas.keyphrases import count_phrases
from gnomonic.atlas.naming import TopicBrief, ask_for_names
from gnomonic.atlas.options import TopicOptions
from gnomonic.atlas.topics import Topics, build_topics
from gnomonic.atlas.words import title
from gnomonic.errors import InputError

_THEMES = [
    [
        "The album was recorded by the rock band.",
        "A rock band with two albums and a tour.",
        "Their albums of rock songs.",
    ],
    ["The orchestra played a symphony.", "A symphony by the composer.", "The composer conducts the orchestra."],
    [
        "A species of beetle in the family.",
        "The beetle is a species with dark wings.",
        "Wings of a species of beetles.",
    ],
    ["The orchid is a species with white petals.", "Petals of the orchid species.", "An orchid with many petals."],
]


class Corpus:
    """Rows of four themes, two in each of two coarse clusters; vectors point to their theme."""

    def __init__(self, each: int = 40) -> None:
        draw = np.random.default_rng(0)
        self.theme = np.repeat(np.arange(4), each)
        self.texts = [_THEMES[theme][i % 3] for i, theme in enumerate(self.theme)]
        self.vectors = np.eye(8, dtype=np.float32)[self.theme] + draw.normal(scale=0.05, size=(4 * each, 8)).astype(
            "f4"
        )
        corner = np.array([[0, 0], [3, 0], [20, 0], [23, 0]], dtype=np.float32)
        self.xy = corner[self.theme] + draw.normal(scale=0.3, size=(4 * each, 2)).astype(np.float32)
        self.labels = np.stack([self.theme // 2, self.theme, self.theme]).astype(np.int32)
        self.labels[:, -1] = -1

    def read(self, rows: NDArray[np.int64]) -> list[str]:
        return [self.texts[row] for row in rows]

    def topics(self, **options: Any) -> Topics:
        given: dict[str, Any] = {"texts": self.read, "labels": self.labels, "vectors": self.vectors, **options}
        return build_topics(self.xy, **given)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus()


def _unique(topics: Topics) -> None:
    names = [topic.name.casefold() for topic in topics.topics]
    assert len(set(names)) == len(names)
    assert all(names)


def test_topics_are_named_by_what_sets_them_apart(corpus: Corpus) -> None:
    found = corpus.topics()
    _unique(found)
    fine = {topic.id: topic.name.lower() for topic in found.topics if topic.depth == 2}
    words = [("rock", "album"), ("symphony", "orchestra", "composer"), ("beetle", "wings"), ("orchid", "petals")]
    for (_, name), expected in zip(sorted(fine.items()), words, strict=True):
        assert any(word in name for word in expected), name
    nature = found.topics[1]
    assert "species" in nature.name.lower(), "what all of its parts share"
    assert nature.description == "/".join(nature.keywords)


def test_the_tree_holds_together(corpus: Corpus) -> None:
    found = corpus.topics()
    assert [topic.id for topic in found.topics] == list(range(10))
    assert [topic.depth for topic in found.topics] == [1, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    assert [topic.parent for topic in found.topics] == [None, None, 0, 0, 1, 1, 2, 3, 4, 5]
    assert (found.labels[:, -1] == -1).all()
    for topic in found.topics:
        rows = np.flatnonzero(found.labels[topic.depth - 1] == topic.id)
        assert topic.count == len(rows)
        assert [topic.x, topic.y] in corpus.xy[rows].tolist()
        assert set(topic.exemplars) <= set(rows.tolist())
        assert len(topic.exemplars) == 8
    assert found.centroids.shape == (10, 8)
    assert found.centroids[6:].argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_without_texts_topics_are_numbered(corpus: Corpus) -> None:
    found = corpus.topics(texts=None)
    names = [topic.name for topic in found.topics]
    assert names[:6] == ["Region 1", "Region 2", "Region 1.1", "Region 1.2", "Region 2.1", "Region 2.2"]
    assert found.topics[0].keywords == ()


def test_meaning_orders_phrases(corpus: Corpus) -> None:
    def embed(texts: list[str]) -> NDArray[np.float32]:
        return np.eye(8, dtype=np.float32)[[0 if "tour" in text else 7 for text in texts]]

    plain, guided = corpus.topics(), corpus.topics(embed=embed)
    assert guided.topics[2].keywords.index("tour") < plain.topics[2].keywords.index("tour")


def test_labels_of_the_users_own(corpus: Corpus) -> None:
    def embed(texts: list[str]) -> NDArray[np.float32]:
        places = {"Pop": [1, 0, 0, 0], "Classical": [0, 1, 0, 0], "Insects": [0, 0, 1, 0], "Plants": [0, 0, 0.9, 1]}
        return np.array([[*places.get(text, [0, 0, 0, 0]), 0, 0, 0, 0] for text in texts], dtype=np.float32)

    found = corpus.topics(options=TopicOptions(labels=("Pop", "Classical", "Insects", "Plants")), embed=embed)
    _unique(found)
    names = [topic.name for topic in found.topics]
    assert names[3] == "Classical" or names[3].startswith("Classical: ")
    assert [name.split(":")[0] for name in names[6:]] == ["Pop", "Classical", "Insects", "Plants"]
    with pytest.raises(InputError, match="labels need a model"):
        corpus.topics(options=TopicOptions(labels=("Pop",)))


def test_what_is_saved_is_loaded(corpus: Corpus, tmp_path: Path) -> None:
    found = corpus.topics()
    found.save(tmp_path)
    again = Topics.load(tmp_path)
    assert again.topics == found.topics
    assert (again.labels == found.labels).all()
    assert (again.centroids == found.centroids).all()


@pytest.mark.parametrize("rows", [0, 1, 2, 14])
def test_few_rows(rows: int) -> None:
    corpus = Corpus()
    found = build_topics(
        corpus.xy[:rows],
        labels=np.zeros((3, rows), dtype=np.int32),
        texts=lambda wanted: ["a short text"] * len(wanted),
        vectors=np.zeros((rows, 4), dtype=np.float16),
    )
    _unique(found)
    assert len(found.topics) == (3 if rows else 0)
    assert found.labels.shape == (3, rows)


def test_rows_must_fit(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="not of the same rows"):
        corpus.topics(vectors=corpus.vectors[:5])


def test_the_answer_repeats(corpus: Corpus) -> None:
    assert corpus.topics(seed=4).topics == corpus.topics(seed=4).topics


def _best(texts: list[list[str]]) -> list[list[str]]:
    groups = np.repeat(np.arange(len(texts)), [len(part) for part in texts]).astype(np.int32)
    phrases = count_phrases([text for part in texts for text in part], groups, len(texts))
    inside = np.eye(len(texts), dtype=np.bool_)
    best = phrases.best(inside, ~inside, np.bincount(groups), count=6)
    return [[phrase.text for phrase in mine] for mine in best]


def test_phrases_keep_their_spelling_and_are_whole() -> None:
    first = [
        "He joined the United States Supreme Court in spring.",
        "The United States Supreme Court's view of the law.",
    ]
    found = _best([first * 3, ["NASA launched a rocket to the moon.", "The rocket of NASA flew to the moon."] * 3])
    assert found[0][0] == "United States Supreme Court"
    assert {"NASA", "rocket", "moon"} <= set(found[1])


def test_plurals_and_repeats_are_one() -> None:
    found = _best(
        [["Maps of towns.", "A map of a town. Map maps.", "The map."] * 2, ["Birds sing.", "A bird sings."] * 3]
    )
    assert sum("map" in phrase.lower() for phrase in found[0]) == 1
    assert not any("Map maps" in phrase for phrase in found[0])


def test_headings_and_function_words_name_nothing() -> None:
    body = "Title of it\nThe castle stands on a hill.\nEarly history\nThe castle was sold.\nReferences\nGallery\n"
    found = _best([[body] * 4, ["Boat\nThe boat sails over the lake.\nGallery\nEarly history\nA lake."] * 4])
    for phrases in found:
        assert not {"gallery", "history", "the", "references"} & {phrase.lower() for phrase in phrases}


def test_other_languages() -> None:
    found = _best(
        [
            ["東京の鉄道は便利です。鉄道の駅。", "この駅は東京の鉄道にある。"] * 3,
            ["猫は魚を食べる。", "白い猫と黒い猫。"] * 3,
        ]
    )
    assert any("鉄道" in phrase for phrase in found[0])
    german = ["Der Bahnhof und die Straße.", "Die Straße am Bahnhof und der Zug.", "Der Zug und die Straße."]
    found = _best(
        [
            german * 4,
            *[[f"Der {word} und die {word}n sind der Preis."] * 12 for word in ("Blume", "Lampe", "Katze", "Rose")],
        ]
    )
    assert not {"der", "die", "und"} & {phrase.lower() for part in found for phrase in part}
    assert "Straße" in found[0]


def test_titles() -> None:
    assert title("house of representatives") == "House of Representatives"
    assert title("NASA rocket") == "NASA Rocket"
    assert title("file_name") == "file_name"


Answer = Callable[[str], tuple[int, str]]


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[str], list[Answer]]]:
    """An endpoint on this machine; yields its address, the prompts it got, and a list that holds how it answers."""
    prompts: list[str] = []
    answers: list[Answer] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompts.append(asked["messages"][0]["content"])
            status, body = answers[0](prompts[-1])
            self.send_response(status if self.path == "/v1/chat/completions" else 404)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", prompts, answers
    server.shutdown()
    server.server_close()
    thread.join()


def _says(content: str) -> tuple[int, str]:
    return 200, json.dumps({"choices": [{"message": {"content": content}}]})


def test_an_endpoint_words_the_names_children_first(corpus: Corpus, endpoint: Any) -> None:
    url, prompts, answers = endpoint
    answers.append(lambda prompt: _says('Sure!\n```json\n{"name": "Best of ' + prompt[75:90].strip() + '"}\n```'))
    found = corpus.topics(options=TopicOptions(naming_url=url, naming_model="m"))
    _unique(found)
    assert len(prompts) == 10
    assert all(topic.name.startswith("Best of") for topic in found.topics)
    assert "Example: " in prompts[0]
    assert "smaller topics:\n- Best of" in prompts[-1]


@pytest.mark.parametrize(
    "answer",
    [(500, "no"), (200, "{"), (200, "{}"), _says("two\nlines"), _says("x" * 200), _says('{"name": ""}')],
)
def test_a_failing_endpoint_costs_no_name(
    corpus: Corpus, endpoint: Any, answer: tuple[int, str], caplog: pytest.LogCaptureFixture
) -> None:
    url, prompts, answers = endpoint
    answers.append(lambda _: answer)
    offline = corpus.topics()
    assert corpus.topics(options=TopicOptions(naming_url=url)).topics == offline.topics
    assert "keeps its offline name" in caplog.text
    assert "asked no more" in caplog.text
    assert len(prompts) == 8


def test_equal_answers_are_told_apart(endpoint: Any) -> None:
    url, _, answers = endpoint
    answers.append(lambda _: _says("Music"))
    briefs = [TopicBrief(name=name, keywords=()) for name in ("Rock", "Opera", "Opera 2")]
    assert ask_for_names(briefs, [0, 1, 2], url=url) == ["Music", "Music: Opera", "Music: Opera 2"]


def test_an_endpoint_that_is_none() -> None:
    brief = TopicBrief(name="Rock", keywords=())
    assert ask_for_names([brief], [0], url="http://127.0.0.1:9/v1", timeout_s=1.0) == ["Rock"]
    with pytest.raises(InputError, match="naming_url 'file:"):
        ask_for_names([brief], [0], url="file:///etc")
