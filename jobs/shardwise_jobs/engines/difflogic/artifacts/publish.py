"""What a trained circuit leaves to people: its parameters, the circuit as text and picture, its losses, a film.

All are pure functions of experiment, state and history: published twice they are the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from shardwise.engine.files import OutputFolder

from ..experiments.presets import Experiment
from ..experiments.trials import Trial, trials
from ..model.automaton import Automaton
from ..model.gates import F64, Ints, hardest
from ..model.optimizer import State
from ..npz import Array, npz_bytes
from .netlist import PLACES, Netlist
from .pruning import active, pruned

PARAMETERS = "parameters.npz"
CIRCUIT = "circuit.txt"
GRAPH, GRAPH_PICTURE = "circuit.svg", "circuit.png"
LOSSES = "loss.png"
FILM = "automaton.gif"
MOST_DRAWN = 5000
"""Gates of a circuit that a picture can show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was written, and what there is to say of it."""

    uris: dict[str, str]
    """By what it is: parameters, circuit, graph, graphPicture, losses, animation."""
    figures: dict[str, float]
    """By metric name: gates, activeGates, prunedGates, and of each trial <name>Wrong and <name>Total."""
    trials: list[Trial]
    warnings: list[str]
    """What is missing, and why."""


def publish(
    *, output: OutputFolder, experiment: Experiment, automaton: Automaton, state: State, history: F64
) -> Published:
    """Try a trained circuit, and write all that people want of it to a folder. Safe to repeat.

    Args:
        output: where to.
        experiment: what was learned.
        automaton: the experiment's, wired.
        state: after the last step.
        history: rows of step, soft loss, hard loss, hard accuracy (0 to 1), (n, 4).

    Raises:
        BadConfiguration: the folder can't be written.
        Unavailable: it is not local, and its place can't be reached.
    """
    functions = hardest(state.logits)
    netlist = pruned(automaton=automaton, functions=functions, counted=experiment.rollout.loss_channels)
    tried = trials(experiment=experiment, automaton=automaton, functions=functions)
    title = f"{experiment.data}, seed {experiment.seed}, after {state.step} steps"
    counts = f"{active(functions):,} of {automaton.gates:,} gates are active, {netlist.gates:,} are left"

    figures: dict[str, float] = {
        "gates": automaton.gates,
        "activeGates": active(functions),
        "prunedGates": netlist.gates,
    }
    for trial in tried:
        figures |= {f"{trial.name}Wrong": trial.wrong, f"{trial.name}Total": trial.total}
    arrays = parameters(experiment=experiment, automaton=automaton, logits=state.logits)
    uris = {
        "parameters": output.write_bytes(PARAMETERS, npz_bytes(arrays)),
        "circuit": output.write_text(CIRCUIT, text(netlist, title=title, counts=counts, tried=tried)),
    }
    made, warnings = _pictures(experiment, automaton, functions, netlist, f"{title}: {counts}", history, tried[0])
    uris |= {name: output.write_bytes(file, draw()) for name, (file, draw) in made.items()}
    return Published(uris=uris, figures=figures, trials=tried, warnings=warnings)


def parameters(*, experiment: Experiment, automaton: Automaton, logits: F64) -> dict[str, Array]:
    """Return logits and wires as arrays, by the names that `shardwise difflogic step` reads; it wants x and y added.

    They are meta (JSON text), perceive_logits_0 (kernels, gates, 16), perceive_wires_0 (2, gates), …,
    update_logits_0 (gates, 16), update_wires_0 (2, gates), ….
    """
    settings = experiment.optimizer
    meta = {
        "periodic": automaton.periodic,
        "num_steps": experiment.rollout.steps,
        "loss_channels": list(experiment.rollout.loss_channels),
        "n_perceive": len(automaton.perceive_wires),
        "n_update": len(automaton.update_wires),
        **{name: getattr(settings, name) for name in ("clip", "lr", "b1", "b2", "eps", "weight_decay")},
    }
    arrays: dict[str, Array] = {"meta": np.array(json.dumps(meta))}
    perceive, update = automaton.layers(logits)
    for circuit, layers, wires in (
        ("perceive", perceive, automaton.perceive_wires),
        ("update", update, automaton.update_wires),
    ):
        for index, (layer, own) in enumerate(zip(layers, wires, strict=True)):
            arrays |= {f"{circuit}_logits_{index}": layer, f"{circuit}_wires_{index}": own}
    return arrays


def text(netlist: Netlist, *, title: str, counts: str, tried: list[Trial]) -> str:
    """Return a circuit as text with comments by which a person can read it."""
    return "\n".join([*_head(netlist, title, counts, tried), *_explained(netlist)]) + "\n"


def _head(netlist: Netlist, title: str, counts: str, tried: list[Trial]) -> Iterator[str]:
    yield f"# {title}."
    yield f"# {counts}: {len(netlist.perceive)} of perception, {len(netlist.update)} of update."
    yield "#"
    yield "# Tried with hard gates:"
    yield from (f"#   {trial}" for trial in tried)
    yield "#"
    yield "# A cell (own) and its neighbours:"
    for row in range(0, len(PLACES), 3):
        yield f"#   {''.join(f'{name:5}' for name in PLACES[row : row + 3])}".rstrip()
    yield "# ne.c0 is channel 0 of the neighbour at the upper right."
    missing = netlist.channels - len(netlist.outputs)
    if missing:
        yield f"# {missing} of its channels are left out: nothing that counts depends on them."
    yield ""


def _explained(netlist: Netlist) -> Iterator[str]:
    told = {
        "perceive": "  # of each channel alike: p1.c0 is p1 of channel 0",
        "update": "  # of the cell; new.c0 is what its channel 0 becomes",
    }
    yield from (line + told.get(line, "") for line in netlist.lines())


def _pictures(
    experiment: Experiment,
    automaton: Automaton,
    functions: Ints,
    netlist: Netlist,
    title: str,
    history: F64,
    trial: Trial,
) -> tuple[dict[str, tuple[str, Callable[[], bytes]]], list[str]]:
    """Return by name which file is to be made and how, and what can't be."""
    try:
        from . import animation, graph, pictures
    except ImportError as error:
        print(f"no pictures: {error}", file=sys.stderr)
        return {}, ["no pictures: matplotlib is missing (pip install 'shardwise[report]')"]
    made: dict[str, tuple[str, Callable[[], bytes]]] = {
        "losses": (LOSSES, lambda: pictures.draw(history, title=title.partition(":")[0], note=str(trial))),
        "animation": (
            FILM,
            lambda: animation.film(experiment=experiment, automaton=automaton, functions=functions),
        ),
    }
    drawn = graph.size(netlist)
    if drawn > MOST_DRAWN:
        return made, [f"no picture of the circuit: {drawn:,} gates are too many to be drawn ({CIRCUIT} has them)"]
    made["graph"] = (GRAPH, lambda: graph.draw(netlist, title=title, kind="svg"))
    made["graphPicture"] = (GRAPH_PICTURE, lambda: graph.draw(netlist, title=title, kind="png"))
    return made, []
