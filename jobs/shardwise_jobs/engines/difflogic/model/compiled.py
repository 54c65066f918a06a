"""How functions of this engine are compiled: without fast-math, without Python's lock, and kept for the next process.

Compiled code is kept where NUMBA_CACHE_DIR says, else beside these files or, where that can't be written, in the home.
Such a folder may be read-only: an image brings a full one, made by `compile`. numba's own cache insists on writing, and
looks at one file only to see whether code is still that of its source; a kernel is made from several.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from . import cpu

cpu.choose()

numba: Any = importlib.import_module("numba")
caching: Any = importlib.import_module("numba.core.caching")
# For when somebody else has imported it before.
numba.config.reload_config()

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_HERE = Path(__file__).parent
log = logging.getLogger("shardwise")
_SOURCES = ("compiled.py", "gates.py", "jit_kernels.py", "llvm_kernels.py", "logits.py")
"""All that decides what comes out of the compiler."""


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function as machine code, made at its first call with arguments of some types, or found ready."""
    made = numba.njit(nogil=True, fastmath=False)(function)
    if folder() is not None:
        made._cache = _Cache(function)
    return cast("Callable[Arguments, Result]", made)


@cache
def folder() -> Path | None:
    """Return where compiled code is kept; None when there is no place."""
    named = numba.config.CACHE_DIR
    if named:
        return _usable(Path(named), full=True)
    # Not when an image is built: there are no more modules then than it takes.
    from shardwise.engine.pod import cache_home, is_ours

    beside = _usable(_HERE / "__pycache__" / "compiled", full=False)
    home = cache_home()
    # Code from a folder that somebody else may write is somebody else's code.
    return beside or (_usable(home / "difflogic", full=False) if home and is_ours(home) else None)


def _usable(path: Path, *, full: bool) -> Path | None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    # One that is given may be read-only: then it is expected to hold what is needed.
    return path if full or os.access(path, os.W_OK) else None


@cache
def _stamp() -> str:
    digest = hashlib.sha256()
    for name in _SOURCES:
        digest.update((_HERE / name).read_bytes())
    return digest.hexdigest()


class _Locator:
    """Where a function's code is kept, and what it depends on; numba asks."""

    def __init__(self, line: int) -> None:
        self._line = line

    @classmethod
    def from_function(cls, function: Any, _file: str) -> _Locator:
        return cls(function.__code__.co_firstlineno)

    def get_cache_path(self) -> str:
        return str(folder())

    def ensure_cache_path(self) -> None:
        return

    def get_source_stamp(self) -> str:
        return _stamp()

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Implementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]  # noqa: RUF012 - as numba's own


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Implementation

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # what a damaged pickle raises can be anything
            log.warning("compiled code in %s is damaged: compiling anew", folder())
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:  # read-only, full, or damaged and read-only: the next process compiles anew
            return
