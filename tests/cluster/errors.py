"""The exception that the command line turns into a message: apart from the rest, so that every module can raise it."""

from __future__ import annotations


class ClusterError(Exception):
    """The cluster can't be brought up, asked or removed; the text says why and, where known, what helps."""
