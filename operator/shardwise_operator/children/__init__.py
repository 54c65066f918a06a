"""What a run's children look like: pure builders of manifests, the same for the operator and for `shardwise render`."""

from .build import ChildSettings, children_of, document_of
from .names import Labels, child_name

__all__ = ["ChildSettings", "Labels", "child_name", "children_of", "document_of"]
