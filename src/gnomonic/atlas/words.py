"""Texts to words: what counts as a word, which words say nothing alone, and which forms are one word."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

__all__ = ["Words", "read_words", "says_nothing", "title", "without_possessive"]

# Scripts written without spaces: every character is a word of its own, and phrases are runs of them.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Vowel signs and accents are no letters to `re`, yet belong to the word.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0900-\u0963\u0966-\u0e7f\u0e80-\u109f\u1780-\u17d3"
_LETTER = f"(?:[^\\W{_UNSPACED}]|[{_MARKS}])"
_TOKEN = re.compile(
    rf"[{_UNSPACED}]|(?:[A-Z]\.){{2,}}|{_LETTER}+(?:['’-]{_LETTER}+)*|[^\w\s]|\n",
)
_ONE_UNSPACED = re.compile(f"[{_UNSPACED}]")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Function words, and words so general that a topic is never about them: verbs of being and telling, counts, times.
_STOP = _set(
    """a about above according across after again against ago all almost alone along already also although always am
    among an and another any anyone anything anywhere are aren't around as at away back be became because become becomes
    been before began begin begins behind being below besides best better between beyond both but by called came can
    can't cannot come comes could couldn't current currently described despite did didn't different do does doesn't
    doing don't done down due during each earlier early eight eighth either else end ended especially etc even ever
    every example far few fifth first five following for former formerly four fourth from full further gave general get
    gets give given gives go goes going good got great had half has have having he her here hers herself him himself his
    how however i i'd i'll i'm i've if important in include included includes including into is isn't it it's its itself
    just keep kept kind known large larger largest last late later latter least led left less like likely little long
    made main mainly major make makes making many may me mean means might more most mostly much must my myself named
    near nearly need needs never new next nine ninth no nobody non none nor not nothing now number of off often old on
    once one only onto open or order original originally other others our ours out over own part particular per perhaps
    possible present previous previously put rather really recent recently related respectively right said same saw say
    says second see seen several seventh she should shouldn't show shown shows similar simply since single six sixth
    small so some something sometimes soon still such take taken takes tenth than that that's the their theirs them
    themselves then there therefore these they they're thing things third this those though three through throughout
    thus time times to today together too took toward towards two under until up upon us use used uses using usually
    various very via want was wasn't way we well went were weren't what whatever when where whereas whether which while
    who whom whose why widely will with within without won't would wouldn't year years yes yet you you'd you'll you're
    your yours yourself january february march april may june july august september october november december day days
    month months based born died located consists contains occurs refers held seven ten won received returned moved
    worked appeared played published released featured produced created founded established built written directed
    developed introduced provided served joined started found side set currently man men people person jr sr dr mr mrs
    ms st two-time e.g i.e eg ie vs etc external links references redirects here references early life name names term
    return returns returned returning raise raises raised optional default defaults arg args argument arguments param
    params parameter parameters value values true false none null self cls specified corresponding instance method
    methods function functions called call calls note result results"""
)

_JOINS = _set("of the and for de la le du des del della der di da do von van und et y e zu el")
_LEADS = _set(
    """a an the of in for its his her their this these at by from on with as and many several each other first no any
    some into between such all both"""
)
_WEAK = _set(
    """son daughter father mother wife husband child children brother sister parents family woman women boy girl friend
    century area location place part type form number group list example title work way member history home
    john william james george charles thomas robert david michael richard henry edward joseph paul peter frank mark
    daniel martin alexander samuel stephen andrew anthony mary elizabeth anne margaret sarah jane maria anna alice
    north south east west northern southern eastern western total"""
)
_ENGLISH = _set("the of and to in is was for that with as by on are it from this be or an")
_DOUBT = 3.0
"""Occurrences, taken to be those of a noun, that are added to those of each word."""
_VERB_LIKE = re.compile(r"(?:[^e]ed|[^i]ly)$")
_NOT_ADVERBS = _set("assembly butterfly family fly italy july monopoly reply supply")


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """Texts as numbers of words, one after another."""

    ids: NDArray[np.int64]
    """[tokens] int64: number of each word; 0 for what parts phrases: punctuation, line ends, ends of texts."""
    texts: NDArray[np.int64]
    """[tokens] int64: the text each stands in."""
    tokens: NDArray[np.int64]
    """[tokens] int64: number of each spelling."""
    spellings: list[str]
    """By number of a spelling: what was written."""
    stop: NDArray[np.bool_]
    """By number: whether it says nothing alone, so that no phrase begins or ends with it."""
    joins: NDArray[np.bool_]
    """By number: whether it may stand inside a phrase all the same, as "of" does."""
    unspaced: NDArray[np.bool_]
    """By number: whether it is a character of a script without spaces."""
    weak: NDArray[np.bool_]
    """By number: whether it alone says little, such as a given name."""
    ending: NDArray[np.float32]
    """By number: how well it ends a phrase, 0 to 1; low for adjectives."""
    noun: NDArray[np.float32]
    """By number: how little it looks like a verb or adverb, 0 to 1."""


def read_words(texts: Sequence[str]) -> Words:
    """Take texts apart."""
    spellings = _numbering("", "\n")
    number = spellings.__getitem__
    found = [np.array([*map(number, _TOKEN.findall(text)), 0], dtype=np.int64) for text in texts]
    tokens = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    stems = _numbering("")
    stem_of = np.array([stems[_stem(spelling)] for spelling in spellings], dtype=np.int64)
    ids = np.where(_headings(tokens), 0, stem_of[tokens])
    stop = np.array([_says_nothing(stem) for stem in stems])
    capital = np.array([spelling[:1].isupper() for spelling in spellings])
    name = np.bincount(stem_of[tokens], weights=capital[tokens] - 0.5, minlength=len(stems)) > 0
    ending, noun = _parts_of_speech(list(stems), ids, stop, name)
    joins = np.array([stem in _JOINS for stem in stems])
    return Words(
        ids=ids,
        texts=np.repeat(np.arange(len(found)), [len(one) for one in found]),
        tokens=tokens,
        spellings=list(spellings),
        stop=stop,
        joins=joins,
        unspaced=np.array([bool(_ONE_UNSPACED.match(stem)) for stem in stems]),
        weak=np.array([stem in _WEAK_STEMS for stem in stems]),
        ending=ending,
        noun=noun,
    )


def _numbering(*first: str) -> defaultdict[str, int]:
    """Return a dictionary that numbers what is looked up in it, in that order."""
    numbers: defaultdict[str, int] = defaultdict(count().__next__)
    for one in first:
        numbers[one]
    return numbers


def _headings(tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Find the words of lines of one or two words, the first line of a text left out: they head what follows."""
    found = np.zeros(len(tokens), dtype=np.bool_)
    ends = np.flatnonzero(tokens <= 1)
    length = np.diff(ends)
    for width in (1, 2):
        begin = ends[:-1][(tokens[ends[:-1]] == 1) & (length == width + 1)]
        for step in range(width):
            found[begin + 1 + step] = True
    return found


def title(phrase: str) -> str:
    """Write a phrase as a heading: words in lower case get a capital, function words between others do not."""
    words = phrase.split(" ")
    last = len(words) - 1
    return " ".join(
        word[:1].upper() + word[1:] if "_" not in word and (i in (0, last) or word not in _STOP) else word
        for i, word in enumerate(words)
    )


def without_possessive(word: str) -> str:
    """Return a word or phrase without the "'s" at its end."""
    return word[:-2] if word.endswith(("'s", "’s")) else word


def _stem(spelling: str) -> str:
    """Return one form for the forms of a word that are told apart by an English plural, a possessive or capitals."""
    word = without_possessive(spelling.lower())
    if not word or not (word[0].isalnum() or word[0] == "_"):
        return ""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is", "ous", "series", "species")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes")) else word[:-1]


_STOP_STEMS, _WEAK_STEMS = frozenset(map(_stem, _STOP)), frozenset(map(_stem, _WEAK))


def says_nothing(word: str) -> bool:
    """Whether a word says nothing alone: a function word, a number, a single letter."""
    return _says_nothing(_stem(word))


def _says_nothing(stem: str) -> bool:
    if stem in _STOP or stem in _STOP_STEMS:
        return True
    if _ONE_UNSPACED.match(stem):
        return False
    return len(stem) < 2 or not any(letter.isalpha() for letter in stem) or stem[0].isdigit()


def _parts_of_speech(
    stems: list[str], ids: NDArray[np.int64], stop: NDArray[np.bool_], name: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weigh words by what stands before and after them: how well each ends a phrase, and how much it is a noun.

    In English a word that is mostly followed by a word of content is an adjective or another's attribute, and what
    hardly ever follows an article, a preposition or an adjective is a verb. Other languages have other orders, so it is
    done only where every tenth word is one of the most frequent English ones. A few occurrences tell little.
    """
    ending, noun = np.ones(len(stems), dtype=np.float32), np.ones(len(stems), dtype=np.float32)
    common = np.array([stem in _ENGLISH for stem in stems])
    if not len(ids) or common[ids].sum() < 0.1 * np.count_nonzero(ids):
        return ending, noun
    counts = np.bincount(ids, minlength=len(stems)) + _DOUBT
    after = np.append(ids[1:], 0)
    ended = np.bincount(ids, weights=stop[after] | (after == 0), minlength=len(stems)) + _DOUBT
    ending = np.clip(ended / counts / 0.5, 0.15, 1.0).astype(np.float32)
    leads = np.array([stem in _LEADS for stem in stems]) | (~stop & (ending < 0.5))
    led = np.bincount(ids, weights=leads[np.append(0, ids[:-1])], minlength=len(stems)) + _DOUBT
    noun = np.clip(led / counts / 0.25, 0.3, 1.0).astype(np.float32)
    for number, stem in enumerate(stems):
        if len(stem) > 4 and not name[number] and _VERB_LIKE.search(stem) and stem not in _NOT_ADVERBS:
            noun[number] *= 0.3
    return ending, noun
