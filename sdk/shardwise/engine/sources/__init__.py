"""Inputs as numbered items: item i is the same in every attempt, shard and process."""

from .base import Item, Source, Survey
from .files import CsvSource, LineSource, WholeFileSource
from .library import HubSource, ParquetSource
from .ranges import RangeSource

__all__ = [
    "CsvSource",
    "HubSource",
    "Item",
    "LineSource",
    "ParquetSource",
    "RangeSource",
    "Source",
    "Survey",
    "WholeFileSource",
]
