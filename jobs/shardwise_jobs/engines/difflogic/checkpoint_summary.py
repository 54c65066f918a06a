"""What a checkpoint holds, for a person who finds one: which experiment, how far it is, how good, its digest."""

from __future__ import annotations

import json
from collections import Counter

from shardwise.engine.errors import BadInput
from shardwise.engine.files import OutputFolder, local_path

from .model.gates import hardest
from .training.checkpoint import FILE, HISTORY_COLUMNS, digest_of, opened

NAMES = (
    "FALSE",
    "AND",
    "A and not B",
    "A",
    "not A and B",
    "B",
    "XOR",
    "OR",
    "NOR",
    "XNOR",
    "not B",
    "A or not B",
    "not A",
    "not A or B",
    "NAND",
    "TRUE",
)


def summary_of(place: str) -> dict[str, str]:
    """Return what the checkpoint at a place holds, by name.

    Args:
        place: a folder or its URI, or the file itself.

    Raises:
        BadInput: there is none, or it is broken.
        BadConfiguration: the place can't be read.
    """
    folder, name = place, FILE
    if place.endswith(".npz"):
        path = local_path(place)
        folder, _, name = place.rpartition("/") if path is None else (str(path.parent), "", path.name)
    output = OutputFolder(folder)
    content = output.read_bytes(name)
    if content is None:
        raise BadInput(f"{output.uri_of(name)}: there is no checkpoint")
    checkpoint, experiment, _ = opened(content, name=output.uri_of(name))
    state, verdict = checkpoint.state, checkpoint.verdict
    summary = {
        "experiment": json.dumps(experiment, sort_keys=True),
        "step": f"{state.step}",
        "digest": f"sha256:{digest_of(logits=state.logits, step=state.step)}",
    }
    if verdict is not None:
        summary["trial"] = f"{verdict.wrong} of {verdict.total} {verdict.unit} wrong at step {verdict.step}"
    if len(checkpoint.history):
        summary |= {
            name: f"{value:g}"
            for name, value in zip(HISTORY_COLUMNS[1:], checkpoint.history[-1, 1:].tolist(), strict=True)
        }
    counts = Counter(hardest(state.logits).tolist())
    summary["gates"] = f"{len(state.logits)}: " + ", ".join(f"{count} {NAMES[k]}" for k, count in counts.most_common())
    return summary
