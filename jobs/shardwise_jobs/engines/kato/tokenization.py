"""Tokenizers by name: two builtin ones that need no file, and everything that the `tokenizers` library reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from shardwise.engine.errors import BadConfiguration, Unavailable, WorkError, panics_are_errors
from shardwise.engine.http_client import adapt_to_hub
from shardwise.engine.pod import mount_hint
from shardwise_api.kato import BuiltinTokenizer, TokenizerSpec

from .hierarchy import Tokenize

WORDS = re.compile(r"\w+|[^\w\s]")
"""Words and single punctuation marks; the boundaries follow the Unicode tables of the Python in use."""


def _bytes(text: str) -> list[str]:
    return [f"{byte:02x}" for byte in text.encode("utf-8")]


_BUILTIN: dict[BuiltinTokenizer, Callable[[str], list[str]]] = {
    BuiltinTokenizer.WORDS: WORDS.findall,
    BuiltinTokenizer.BYTES: _bytes,
}


def open_tokenizer(spec: TokenizerSpec) -> Tokenize:
    """Return the function from text to tokens that the manifest asks for."""
    if spec.builtin is not None:
        return _BUILTIN[spec.builtin]
    try:
        from huggingface_hub.errors import LocalEntryNotFoundError
        from tokenizers import Tokenizer
    except ImportError as error:
        raise BadConfiguration(
            "tokenizer.file and tokenizer.hub need the extra: pip install 'shardwise[kato]'"
        ) from error
    try:
        with panics_are_errors():
            if spec.file is not None:
                tokenizer = Tokenizer.from_file(spec.file)
            else:
                assert spec.hub is not None
                adapt_to_hub()
                tokenizer = Tokenizer.from_pretrained(spec.hub)
    except WorkError:
        raise
    except LocalEntryNotFoundError as error:
        # Neither in the cache nor reached: that may be over soon.
        raise Unavailable(f"tokenizer.hub {spec.hub!r}: {error}") from error
    except Exception as error:  # the library raises bare Exception for a missing or broken file
        where = f"tokenizer.file {spec.file!r}" if spec.file is not None else f"tokenizer.hub {spec.hub!r}"
        raise BadConfiguration(f"{where}: {error}") from error
    # Sharded by processes already; a thread pool of its own would fight the other workers for the cores.
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def tokenize(text: str) -> list[str]:
        try:
            with panics_are_errors():
                tokens: list[str] = tokenizer.encode(text, add_special_tokens=False).tokens
        except Exception as error:
            where = spec.file if spec.file is not None else spec.hub
            raise BadConfiguration(f"tokenizer {where!r} fails on a text: {error}") from error
        return tokens

    return tokenize


def tokenizer_identity(spec: TokenizerSpec) -> str:
    """Return what tells two tokenizers apart; a file is known by its content, so that moving it changes nothing."""
    if spec.builtin is not None:
        return f"builtin:{spec.builtin}"
    if spec.file is not None:
        try:
            content = Path(spec.file).read_bytes()
        except OSError as error:
            hint = mount_hint(Path(spec.file))
            raise BadConfiguration(f"tokenizer.file {spec.file!r}: {error.strerror or error}{hint}") from error
        return f"file:sha256:{hashlib.sha256(content).hexdigest()}"
    return f"hub:{spec.hub}"
