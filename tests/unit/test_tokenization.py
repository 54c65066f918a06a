"""Tokenizers: the builtin ones, a real file of the tokenizers library, and what is said of a missing or broken one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from shardwise.engine.errors import BadConfiguration, Unavailable
from shardwise_api.kato import BuiltinTokenizer, TokenizerSpec
from shardwise_jobs.engines.kato.tokenization import open_tokenizer, tokenizer_identity

WORDS = TokenizerSpec(builtin=BuiltinTokenizer.WORDS)
BYTES = TokenizerSpec(builtin=BuiltinTokenizer.BYTES)


@pytest.fixture(scope="module")
def bpe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a small byte-level BPE, with the special tokens and the limits that a shipped file may bring."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat", "the hat of the cat"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.enable_truncation(max_length=4)
    tokenizer.enable_padding(pad_token="<pad>", pad_id=1, length=8)
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The cat sat.", ["The", "cat", "sat", "."]),
        ("it's 3.14 €", ["it", "'", "s", "3", ".", "14", "€"]),
        ("snake_case  and\nlines\t!?", ["snake_case", "and", "lines", "!", "?"]),
        ("日本語 é", ["日本語", "é"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_words_are_runs_of_letters_and_single_marks(text: str, tokens: list[str]) -> None:
    assert open_tokenizer(WORDS)(text) == tokens


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_words_hold_every_character_but_white_space(text: str) -> None:
    assert "".join(open_tokenizer(WORDS)(text)) == "".join(text.split())


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_are_the_text_in_hex(text: str) -> None:
    tokens = open_tokenizer(BYTES)(text)
    assert all(len(token) == 2 for token in tokens)
    assert bytes.fromhex("".join(tokens)).decode("utf-8") == text


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_a_tokenizer_file_gives_tokens_that_hold_the_whole_text(bpe_file: Path, text: str) -> None:
    tokens = open_tokenizer(TokenizerSpec(file=str(bpe_file)))(text)
    assert decoders.ByteLevel().decode(tokens) == text


def test_a_file_s_special_tokens_limits_and_padding_are_left_out(bpe_file: Path) -> None:
    tokens = open_tokenizer(TokenizerSpec(file=str(bpe_file)))("the cat sat on the mat and the hat")
    assert len(tokens) > 8
    assert not {"<s>", "<pad>"} & set(tokens)
    assert tokens[:2] == ["the", "Ġcat"]


def test_a_missing_file_is_a_bad_configuration_that_names_it(tmp_path: Path) -> None:
    spec = TokenizerSpec(file=str(tmp_path / "nowhere.json"))
    with pytest.raises(BadConfiguration, match=r"tokenizer\.file .*nowhere\.json"):
        open_tokenizer(spec)
    with pytest.raises(BadConfiguration, match=r"tokenizer\.file .*nowhere\.json.*No such file"):
        tokenizer_identity(spec)


@pytest.mark.parametrize("content", [b"", b"{}", b"no json", b"\xff\xfe", b'{"model": 1}'])
def test_a_broken_file_is_a_bad_configuration_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(BadConfiguration, match=r"tokenizer\.file .*broken\.json"):
        open_tokenizer(TokenizerSpec(file=str(path)))


def test_a_hub_that_cannot_be_reached_is_worth_another_try(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unavailable, match=r"tokenizer\.hub 'gpt2': "):
        open_tokenizer(TokenizerSpec(hub="gpt2"))


def test_a_name_that_no_hub_can_have_is_a_bad_configuration() -> None:
    with pytest.raises(BadConfiguration, match=r"tokenizer\.hub 'no/such/name'"):
        open_tokenizer(TokenizerSpec(hub="no/such/name"))


def test_the_library_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, bpe_file: Path) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert open_tokenizer(WORDS)("no library") == ["no", "library"]
    with pytest.raises(BadConfiguration, match=r"pip install 'shardwise\[kato\]'"):
        open_tokenizer(TokenizerSpec(file=str(bpe_file)))


def test_a_folder_is_no_tokenizer_file(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match=r"tokenizer\.file"):
        tokenizer_identity(TokenizerSpec(file=str(tmp_path)))


def test_a_file_is_known_by_its_content_wherever_it_lies(bpe_file: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.json"
    shutil.copy(bpe_file, moved)
    known = tokenizer_identity(TokenizerSpec(file=str(bpe_file)))
    assert tokenizer_identity(TokenizerSpec(file=str(moved))) == known
    assert known.startswith("file:sha256:")
    moved.write_bytes(moved.read_bytes() + b"\n")
    assert tokenizer_identity(TokenizerSpec(file=str(moved))) != known


def test_builtin_and_hub_tokenizers_are_known_by_name() -> None:
    assert tokenizer_identity(WORDS) == "builtin:words"
    assert tokenizer_identity(BYTES) == "builtin:bytes"
    assert tokenizer_identity(TokenizerSpec(hub="gpt2")) == "hub:gpt2"
