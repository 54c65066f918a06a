"""Where patterns live: one interface, an embedded SQLite file and a MongoDB that KATO servers read too."""

from .base import BlockRecord, Guard, KnowledgeBaseConfig, Pattern, PatternCount, PatternStore, Symbol, Totals
from .open import open_store

__all__ = [
    "BlockRecord",
    "Guard",
    "KnowledgeBaseConfig",
    "Pattern",
    "PatternCount",
    "PatternStore",
    "Symbol",
    "Totals",
    "open_store",
]
