"""The console of every command that draws tables: text is no markup there, and no control of it gets through."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from .terminal import sanitize


class SafeConsole(Console):
    """A console on which text is text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does; controls that come of a text are replaced, rich's own are kept."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(sanitize(segment.text), segment.style)


def safe_console(*, width: int = 120, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """Return a console that has `width` columns where it is no terminal: room for a digest or a path in one line."""
    made = SafeConsole(stderr=stderr, file=file)
    return made if made.is_terminal else SafeConsole(stderr=stderr, file=file, width=width)
