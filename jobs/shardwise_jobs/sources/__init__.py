"""Inputs as numbered records: item i is the same record in every attempt, shard and process."""

from .base import Record, RecordSource, Survey
from .files import LineFiles
from .library import LibraryDataset

__all__ = ["LibraryDataset", "LineFiles", "Record", "RecordSource", "Survey"]
