"""DiffLogic written once more, slowly: 16 weighted gates, one cell after another, in complex numbers.

It shares nothing with the product. In complex numbers a step of 1e-30 along the imaginary axis is a derivative to the
last digits, with none of the cancellation that differences suffer from.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .automata import Batch

TINY = 1e-30
Complex = np.ndarray[Any, np.dtype[np.complexfloating[Any, Any]]]


def loss(batch: Batch, number: int, logits: Complex) -> complex:
    """Soft loss of one sample, for logits (gates, 16)."""
    weights = np.exp(logits - logits.real.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    grid = batch.x[number].astype(np.complex128)
    for step in range(batch.steps):
        new = grid.copy()
        for y in range(grid.shape[0]):
            for x in range(grid.shape[1]):
                if batch.fire is None or batch.fire[number, step, y, x]:
                    new[y, x] = _cell(batch, weights, grid, y, x)
        grid = new
    difference = (grid - batch.y[number])[:, :, ::2]
    return complex((difference**2).sum())


def slope(batch: Batch, number: int, direction: np.ndarray) -> float:
    """Derivative of the soft loss along a direction in the space of logits."""
    return loss(batch, number, batch.logits + 1j * TINY * direction).imag / TINY


def _cell(batch: Batch, weights: Complex, grid: Complex, y: int, x: int) -> list[complex]:
    automaton = batch.automaton
    height, width, channels = grid.shape
    perceived: dict[tuple[int, int, int], complex] = {}
    for channel in range(channels):
        patch = []
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                there = (y + dy, x + dx)
                if automaton.periodic:
                    there = (there[0] % height, there[1] % width)
                inside = 0 <= there[0] < height and 0 <= there[1] < width
                patch.append(complex(grid[there[0], there[1], channel]) if inside else 0j)
        for kernel in range(automaton.kernels):
            values, start = patch, 0
            for wires in automaton.perceive_wires:
                gates = wires.shape[1]
                first = start + kernel * gates
                values = [_gate(weights[first + g], values[wires[0, g]], values[wires[1, g]]) for g in range(gates)]
                start += automaton.kernels * gates
            for bit, value in enumerate(values):
                perceived[channel, bit, kernel] = value
    values = [complex(value) for value in grid[y, x]] + [perceived[key] for key in sorted(perceived)]
    for wires in automaton.update_wires:
        gates = wires.shape[1]
        values = [_gate(weights[start + g], values[wires[0, g]], values[wires[1, g]]) for g in range(gates)]
        start += gates
    return values


def _gate(weights: Complex, a: complex, b: complex) -> complex:
    ab = a * b
    relaxed = [
        0, ab, a - ab, a, b - ab, b, a + b - 2 * ab, a + b - ab,
        1 - (a + b - ab), 1 - (a + b - 2 * ab), 1 - b, 1 - b + ab, 1 - a, 1 - a + ab, 1 - ab, 1,
    ]  # fmt: skip
    return complex(sum(weight * value for weight, value in zip(weights, relaxed, strict=True)))
