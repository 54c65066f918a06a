"""The level rule, compared with a literal reading of it: buffers, an ascending loop, a flush at the end of the book."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise_api.kato import TextStructure
from shardwise_jobs.engines.kato.hierarchy import Hierarchy, SampleTree, sum_up
from shardwise_jobs.engines.kato.names import pattern_hash, wire_name
from shardwise_jobs.engines.kato.stores.base import Events

Learns = list[list[tuple[str, Events]]]


class LiteralLearner:
    """The rule word for word, as a server with one session per node would be driven; slow and obvious."""

    def __init__(self, chunk_sizes: tuple[int, ...]) -> None:
        self.sizes = chunk_sizes
        self.learned: Learns = [[] for _ in chunk_sizes]
        self.buffers: list[list[str]] = [[] for _ in chunk_sizes]

    def _learn(self, level: int, symbols: list[str]) -> None:
        events = [[symbol] for symbol in symbols]
        name = pattern_hash(events)
        self.learned[level].append((name, events))
        if level + 1 < len(self.sizes):
            self.buffers[level + 1].append(wire_name(name))

    def book(self, paragraphs: list[list[str]]) -> Learns:
        for tokens in paragraphs:
            for chunk in self._chunks(tokens):
                self._learn(0, chunk)
                for level in range(1, len(self.sizes)):
                    if len(self.buffers[level]) >= self.sizes[level]:
                        full = self.buffers[level][: self.sizes[level]]
                        self.buffers[level] = self.buffers[level][self.sizes[level] :]
                        self._learn(level, full)
        for level in range(1, len(self.sizes)):
            if len(self.buffers[level]) >= 2:
                rest, self.buffers[level] = self.buffers[level], []
                self._learn(level, rest)
        return self.learned

    def _chunks(self, tokens: list[str]) -> list[list[str]]:
        size = self.sizes[0]
        if len(tokens) <= size:
            return [tokens] if len(tokens) >= 3 else []
        cut = [tokens[start : start + size] for start in range(0, len(tokens), size)]
        if len(cut[-1]) < 3:
            last = cut.pop()
            cut[-1] = cut[-1] + last
        return cut


def _text(tokens: int) -> str:
    return " ".join(f"token{number}" for number in range(tokens))


def _learn(text: str, *sizes: int) -> SampleTree:
    return Hierarchy(chunk_sizes=sizes, tokenize=str.split).learn(item=0, text=text)


def _counts(tree: SampleTree) -> list[int]:
    return [len(level) for level in tree.levels]


@pytest.mark.parametrize(
    ("tokens", "learns"),
    [
        (2, [0, 0, 0]),
        (3, [1, 0, 0]),
        (5, [1, 0, 0]),
        (6, [1, 0, 0]),
        (7, [1, 0, 0]),
        (8, [2, 1, 0]),
        (12, [2, 1, 0]),
        (35, [7, 1, 0]),
        (36, [7, 1, 0]),
        (38, [8, 1, 0]),
        (250, [50, 7, 1]),
        (500, [100, 15, 2]),
        (503, [101, 15, 2]),
    ],
)
def test_one_paragraph_teaches_each_node_what_the_specification_counts(tokens: int, learns: list[int]) -> None:
    assert _counts(_learn(_text(tokens), 5, 7, 9)) == learns


def test_five_hundred_tokens_are_117_learns_on_three_levels() -> None:
    assert sum(_counts(_learn(_text(500), 5, 7, 9))) == 117


def test_six_levels_learn_until_a_single_name_is_left() -> None:
    counts = _counts(_learn(_text(500), 5, 7, 9, 11, 13, 17))
    assert counts == [100, 15, 2, 1, 0, 0]
    assert sum(counts) == 118


def test_symbols_above_node0_are_the_names_below_with_their_prefix() -> None:
    tree = _learn(_text(8), 5, 7)
    (name, events), (other, _) = tree.levels[0]
    assert events == [["token0"], ["token1"], ["token2"], ["token3"], ["token4"]]
    assert tree.levels[1] == [
        (pattern_hash([[f"PTRN|{name}"], [f"PTRN|{other}"]]), [[f"PTRN|{name}"], [f"PTRN|{other}"]])
    ]


def test_a_paragraph_is_cut_off_after_2048_tokens() -> None:
    beyond = _text(2048) + " and some tokens more"
    assert _learn(beyond, 5, 7).levels == _learn(_text(2048), 5, 7).levels
    assert sum(len(events) for _, events in _learn(beyond, 5, 7).levels[0]) == 2048


def test_each_paragraph_has_a_cut_off_of_its_own() -> None:
    tree = _learn(f"{_text(3000)}\n\n{_text(3000)}", 5)
    assert sum(len(events) for _, events in tree.levels[0]) == 2 * 2048


def test_no_chunk_crosses_paragraphs_but_upper_levels_do() -> None:
    tree = _learn("one two three four\n\nfive six seven eight", 5, 7)
    assert [len(events) for _, events in tree.levels[0]] == [4, 4]
    assert _counts(tree) == [2, 1]


def test_headings_of_an_article_are_not_crossed_by_chunks() -> None:
    text = "Words before it.\n# A heading of it\nWords after it."
    simple = Hierarchy(chunk_sizes=(20,), tokenize=str.split)
    article = Hierarchy(chunk_sizes=(20,), tokenize=str.split, structure=TextStructure.ARTICLE)
    assert _counts(simple.learn(item=0, text=text)) == [1]
    assert _counts(article.learn(item=0, text=text)) == [2]


def test_sentences_are_learned_as_they_are_and_short_ones_are_not() -> None:
    hierarchy = Hierarchy(chunk_sizes=(5, 7), tokenize=str.split, min_sentence_tokens=3)
    tree = hierarchy.learn(item=0, text="No . ĠIt Ġis Ġa Ġsentence Ġof Ġeight Ġtokens . ĠAnd Ġone Ġmore")
    assert [[symbol for (symbol,) in events] for _, events in tree.levels[0]] == [
        ["ĠIt", "Ġis", "Ġa", "Ġsentence", "Ġof", "Ġeight", "Ġtokens", "."],
        ["ĠAnd", "Ġone", "Ġmore"],
    ]
    assert _counts(tree) == [2, 1]


def test_whether_words_are_marked_is_asked_of_the_tokenizer_and_not_of_a_paragraph_without_spaces() -> None:
    def gpt2_like(text: str) -> list[str]:
        return text.replace(" ", " Ġ").replace(".", " . ").split()

    text = "www.example.org"
    assert gpt2_like(text) == ["www", ".", "example", ".", "org"]
    tree = Hierarchy(chunk_sizes=(5,), tokenize=gpt2_like, min_sentence_tokens=2).learn(item=0, text=text)
    assert [len(events) for _, events in tree.levels[0]] == [5]


PARAGRAPHS = st.lists(
    st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "it's", "日本語"]), min_size=4, max_size=90),
    max_size=6,
)
CHUNK_SIZES = st.lists(st.integers(3, 9), min_size=1, max_size=5).map(tuple)


@given(paragraphs=PARAGRAPHS, sizes=CHUNK_SIZES)
def test_the_tree_of_a_text_is_what_the_rule_read_literally_learns(
    paragraphs: list[list[str]], sizes: tuple[int, ...]
) -> None:
    paragraphs = [tokens for tokens in paragraphs if len(" ".join(tokens)) >= 10]
    text = "\n\n".join(" ".join(tokens) for tokens in paragraphs)
    assert _learn(text, *sizes).levels == LiteralLearner(sizes).book(paragraphs)


@given(paragraphs=PARAGRAPHS, sizes=CHUNK_SIZES)
def test_every_learned_pattern_has_two_symbols_at_least_and_its_own_name(
    paragraphs: list[list[str]], sizes: tuple[int, ...]
) -> None:
    tree = _learn("\n\n".join(" ".join(tokens) for tokens in paragraphs), *sizes)
    for level in tree.levels:
        assert all(len(events) >= 2 and name == pattern_hash(events) for name, events in level)


TEXTS = st.lists(
    st.lists(st.sampled_from(["alpha", "beta"]), min_size=4, max_size=40).map(" ".join), min_size=1, max_size=6
)


@given(texts=TEXTS, random=st.randoms(use_true_random=False))
def test_summing_up_equals_learning_one_by_one_in_any_order(texts: list[str], random: object) -> None:
    sizes = (3, 4, 5)
    trees = [_learn(text, *sizes) for text in texts]
    counted = [Counter(name for tree in trees for name, _ in tree.levels[level]) for level in range(len(sizes))]
    summed = sum_up(trees, levels=len(sizes))
    assert [{learned.name: learned.count for learned in level} for level in summed] == counted
    assert all(pattern_hash(learned.events) == learned.name for level in summed for learned in level)
    assert all([p.name for p in level] == sorted(p.name for p in level) for level in summed)
    random.shuffle(trees)  # type: ignore[attr-defined]
    assert sum_up(trees, levels=len(sizes)) == summed


def test_nothing_sums_up_to_nothing_on_every_level() -> None:
    assert sum_up([], levels=3) == [[], [], []]
