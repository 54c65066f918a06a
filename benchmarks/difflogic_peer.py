"""The same network in JAX, with its own differentiation: what the product's training step is measured against.

Two forms. `gates` is the original's: all 16 relaxed functions of a gate are computed for every cell, and their weighted
sum is taken. `coefficients` is the product's: a gate's mixture is collapsed to four numbers first. Both do what a step
of the original does: soft rollout and its gradient, hard rollout, clipping, AdamW, in one compiled function.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

FORMS = ("gates", "coefficients")


def main() -> int:
    """Measure one form of one case, print JSON, and leave gradient and losses in a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.difflogic_peer", description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("--form", choices=FORMS, required=True)
    parser.add_argument("--dtype", choices=["f64", "f32"], required=True)
    parser.add_argument("--cpus", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args()
    # Before jax is imported: it makes as many threads as it may use processors.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cpus])
    os.environ["JAX_PLATFORMS"] = "cpu"
    if arguments.cpus == 1:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", arguments.dtype == "f64")

    from .difflogic_case import case, measured

    given = case(arguments.preset)
    step = stepper(given, form=arguments.form, dtype=arguments.dtype)
    zeros = np.zeros_like(given.logits)
    gradient, soft, hard, state = jax.block_until_ready(step(given.logits, zeros, zeros, 1.0))
    np.savez(arguments.results, gradient=np.asarray(gradient, dtype=np.float64), losses=np.array([soft, hard]))
    # As in a training: logits and moments stay with jax.
    found = measured(lambda: jax.block_until_ready(step(*state, 2.0)), seconds=arguments.seconds)
    print(json.dumps(found))
    return 0


def stepper(given: Any, *, form: str, dtype: str) -> Any:
    """Return the compiled step: logits, m, v, t -> gradient, soft loss, hard loss, (logits, m, v)."""
    jax: Any = importlib.import_module("jax")
    jnp: Any = importlib.import_module("jax.numpy")

    from shardwise_jobs.engines.difflogic.model.gates import FORMS as FORMS_OF_GATES

    kind = jnp.float64 if dtype == "f64" else jnp.float32
    automaton, rollout, settings = given.automaton, given.experiment.rollout, given.experiment.optimizer
    m_of_gates = jnp.asarray(FORMS_OF_GATES, dtype=kind)
    x0, target = jnp.asarray(given.x, dtype=kind), jnp.asarray(given.y, dtype=kind)
    channels = jnp.asarray(given.loss_channels)
    perceive_wires = [jnp.asarray(wires) for wires in automaton.perceive_wires]
    update_wires = [jnp.asarray(wires) for wires in automaton.update_wires]

    def layer(values: Any, wires: Any, weights: Any) -> Any:
        # values (..., inputs), weights (..., gates, 16)
        a, b = values[..., wires[0]], values[..., wires[1]]
        if form == "gates":
            ab = a * b
            zero, one = jnp.zeros_like(a), jnp.ones_like(a)
            every = [
                zero, ab, a - ab, a, b - ab, b, a + b - 2 * ab, a + b - ab,
                1 - (a + b - ab), 1 - (a + b - 2 * ab), 1 - b, 1 - b + ab, 1 - a, 1 - a + ab, 1 - ab, one,
            ]  # fmt: skip
            return (jnp.stack(every, axis=-1) * weights).sum(axis=-1)
        c = weights @ m_of_gates
        return c[..., 0] + c[..., 1] * a + c[..., 2] * b + c[..., 3] * (a * b)

    def patches(grid: Any) -> Any:
        # (samples, height, width, channels) -> (samples, height, width, channels, 9)
        mode = "wrap" if automaton.periodic else "constant"
        padded = jnp.pad(grid, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
        height, width = grid.shape[1:3]
        return jnp.stack([padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=-1)

    def rolled_out(weights: Any) -> Any:
        perceive, update = automaton_layers(weights)

        def one(grid: Any, _: Any) -> tuple[Any, None]:
            # (samples, height, width, channels, kernels, inputs)
            values = patches(grid)[..., None, :]
            for wires, own in zip(perceive_wires, perceive, strict=True):
                values = layer(values, wires, own)
            # channel, output bit, kernel
            features = jnp.swapaxes(values, -1, -2).reshape(*grid.shape[:3], -1)
            values = jnp.concatenate([grid, features], axis=-1)
            for wires, own in zip(update_wires, update, strict=True):
                values = layer(values, wires, own)
            return values, None

        return jax.lax.scan(one, x0, None, length=rollout.steps)[0]

    def automaton_layers(flat: Any) -> tuple[list[Any], list[Any]]:
        perceive, update, start = [], [], 0
        for width in automaton.perceive_widths:
            count = automaton.kernels * width
            perceive.append(flat[start : start + count].reshape(automaton.kernels, width, 16))
            start += count
        for width in automaton.update_widths:
            update.append(flat[start : start + width])
            start += width
        return perceive, update

    def loss(grid: Any) -> Any:
        return ((grid - target)[..., channels] ** 2).sum()

    def soft_loss(logits: Any) -> Any:
        return loss(rolled_out(jax.nn.softmax(logits, axis=-1)))

    def step(logits: Any, m: Any, v: Any, t: Any) -> Any:
        logits, m, v = (jnp.asarray(array, dtype=kind) for array in (logits, m, v))
        soft, gradient = jax.value_and_grad(soft_loss)(logits)
        hard = loss(rolled_out(jax.nn.one_hot(jnp.argmax(logits, axis=-1), 16, dtype=kind)))
        g = jnp.clip(gradient, -settings.clip, settings.clip)
        m = settings.b1 * m + (1 - settings.b1) * g
        v = settings.b2 * v + (1 - settings.b2) * g * g
        moved = (m / (1 - settings.b1**t)) / (jnp.sqrt(v / (1 - settings.b2**t)) + settings.eps)
        new = logits - settings.lr * (moved + settings.weight_decay * logits)
        return gradient, soft, hard, (new, m, v)

    return jax.jit(step)


if __name__ == "__main__":
    sys.exit(main())
