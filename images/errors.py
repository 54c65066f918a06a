"""The exception that the command line turns into a message: apart from the rest, so that every module can raise it."""

from __future__ import annotations


class ImageError(Exception):
    """An image can't be built or loaded; the text says why and, where known, what helps."""
