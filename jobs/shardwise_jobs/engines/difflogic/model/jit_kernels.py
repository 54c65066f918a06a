"""The computation of `reference`, compiled: the same operations in the same order, the same bits on every processor.

All samples of a batch go through in one call, each for itself: no sample's numbers depend on its neighbours. Nothing
holds Python's lock, so that threads may each take a part of the batch.
"""

from __future__ import annotations

import numpy as np

from .circuit import Table
from .compiled import compiled
from .gates import F64, Bools, Floats, Ints, Words
from .llvm_kernels import CHUNK, WORDS, look_up_word, look_up_words, mix, mix_back

_LIMIT = 2.0**30
_HALF_WAY = 1.5 * 2.0**52
"""Added and taken away again, it rounds to a whole number, of two as near to the even one."""


@compiled
def cells_of(fire: Bools, everyone: bool, fired: Ints) -> int:
    """Write the numbers of the cells that fire, filled up to whole chunks with the one outside; return how many do."""
    count = 0
    for cell in range(fire.shape[0]):
        if everyone or fire[cell]:
            fired[count] = cell
            count += 1
    for cell in range(count, (count + CHUNK - 1) // CHUNK * CHUNK):
        fired[cell] = fire.shape[0]
    return count


@compiled
def gather(state: Floats, neighbours: Ints, fired: Ints, first: int, values: Floats) -> None:
    """Lay the neighbourhoods (channels * 9) of a chunk's cells into the first rows."""
    for channel in range(state.shape[0]):
        for place in range(9):
            row = channel * 9 + place
            for column in range(CHUNK):
                values[row, column] = state[channel, neighbours[place, fired[first + column]]]


@compiled
def step_forward(
    before: Floats, after: Floats, fire: Bools, everyone: bool, neighbours: Ints, table: Table, coefficients: Floats,
    values: Floats, fired: Ints,
) -> None:  # fmt: skip
    """Take one step from a state (channels, cells + 1) to the next."""
    channels = before.shape[0]
    after[:] = before
    count = cells_of(fire, everyone, fired)
    for first in range(0, count, CHUNK):
        gather(before, neighbours, fired, first, values)
        for gate in range(table.shape[0]):
            mix(values, coefficients, table, gate)
        for channel in range(channels):
            place = table[table.shape[0] - channels + channel, 2]
            for column in range(min(CHUNK, count - first)):
                after[channel, fired[first + column]] = values[place, column]


@compiled
def step_back(
    before: Floats, after: Floats, target: Floats, counted: Bools, last: bool, fire: Bools, everyone: bool,
    neighbours: Ints, table: Table, back: Table, outputs: Table, coefficients: Floats, values: Floats, grads: Floats,
    fired: Ints, gradient: Floats, by_patch: Floats, sums: F64,
) -> None:  # fmt: skip
    """Turn `gradient` of the state after a step into that before it, adding to the gates' sums.

    The rollout's last step is not taken yet: it is now, and the gradient begins with its loss.
    """
    channels, nothing = before.shape[0], before.shape[1] - 1
    count = cells_of(fire, everyone, fired)
    if last:
        after[:] = before
        for channel in range(channels):
            for cell in range(nothing):
                difference = before[channel, cell] - target[channel, cell]
                gradient[channel, cell] = difference + difference if counted[channel] else difference - difference
    if not everyone:
        by_patch[:] = 0
    for first in range(0, count, CHUNK):
        real = min(CHUNK, count - first)
        gather(before, neighbours, fired, first, values)
        for gate in range(table.shape[0]):
            mix(values, coefficients, table, gate)
        for channel in range(channels):
            row, place = values.shape[0] - channels + channel, outputs[channel]
            if last:
                for column in range(real):
                    cell = fired[first + column]
                    new = values[row, column]
                    after[channel, cell] = new
                    if counted[channel]:
                        difference = new - target[channel, cell]
                        gradient[channel, cell] = difference + difference
            for column in range(CHUNK):
                grads[place, column] = gradient[channel, fired[first + column]]
        for gate in range(back.shape[0]):
            mix_back(values, grads, coefficients, sums, back, gate)
        for channel in range(channels):
            for place in range(9):
                for column in range(real):
                    by_patch[place, channel, fired[first + column]] = grads[1 + channel * 9 + place, column]
            for column in range(real):
                gradient[channel, fired[first + column]] = 0
    for channel in range(channels):
        for place in range(9):
            for cell in range(nothing):
                gradient[channel, cell] += by_patch[place, channel, neighbours[8 - place, cell]]


@compiled
def squared_error(state: Floats, target: Floats, channels: Ints) -> float:
    """Sum (state - target)**2 over channels and cells: in float64, one after another."""
    total = 0.0
    for channel in channels:
        for cell in range(state.shape[1] - 1):
            difference = np.float64(state[channel, cell]) - np.float64(target[channel, cell])
            total += difference * difference
    return total


@compiled
def right_bits(state: Floats, target: Floats, channels: Ints) -> int:
    """Count the cells of channels where two states agree."""
    count = 0
    for channel in channels:
        for cell in range(state.shape[1] - 1):
            if state[channel, cell] == target[channel, cell]:
                count += 1
    return count


@compiled
def hard_rollout(
    state: Floats | Bools, fire: Bools, everyone: bool, neighbours: Ints, table: Table, masks: Words, words: Words,
    blocks: Words, packed: Words,
) -> None:  # fmt: skip
    """Roll a state of bits (channels, cells + 1) out in its place, by truth tables, 64 cells to a word.

    Args:
        state: of zeros and ones in any type.
        fire: (steps, cells).
        everyone: fire is not looked at.
        neighbours: (9, cells + 1).
        table: `Circuit.reused`.
        masks: (gates, 4).
        words: for one word of cells, (places, 1).
        blocks: for more, (places, WORDS).
        packed: the state's bits, (channels, words + 1), a multiple of WORDS words.
    """
    channels, cells = state.shape[0], state.shape[1] - 1
    one = np.uint64(1)
    size = 1 if cells <= 64 else WORDS
    for step in range(fire.shape[0]):
        for start in range(0, (cells + 63) // 64, size):
            for channel in range(channels):
                for place in range(9):
                    for word in range(size):
                        bits = np.uint64(0)
                        first = (start + word) * 64
                        for cell in range(min(64, cells - first)):
                            bit = state[channel, neighbours[place, first + cell]] != 0
                            bits |= np.uint64(bit) << np.uint64(cell)
                        if size == 1:
                            words[channel * 9 + place, 0] = bits
                        else:
                            blocks[channel * 9 + place, word] = bits
            if size == 1:
                for gate in range(table.shape[0]):
                    look_up_word(words, masks, table, gate)
            else:
                for gate in range(table.shape[0]):
                    look_up_words(blocks, masks, table, gate)
            for channel in range(channels):
                place = table[table.shape[0] - channels + channel, 2]
                for word in range(size):
                    packed[channel, start + word] = words[place, 0] if size == 1 else blocks[place, word]
        for channel in range(channels):
            for cell in range(cells):
                if everyone or fire[step, cell]:
                    state[channel, cell] = (packed[channel, cell >> 6] >> np.uint64(cell & 63)) & one


@compiled
def add_words(values: F64, words: Ints) -> bool:
    """Add numbers (n,) to sums (n, 2) as `fixed_point.to_integers` would; return whether all are finite and small."""
    largest = 0.0
    for number in range(values.shape[0]):
        # What is no number is not below anything.
        largest = max(largest, abs(values[number])) if abs(values[number]) < _LIMIT else _LIMIT
        if largest >= _LIMIT:
            return False
    for number in range(values.shape[0]):
        high = (values[number] * 2.0**20 + _HALF_WAY) - _HALF_WAY
        low = ((values[number] - high * 2.0**-20) * 2.0**70 + _HALF_WAY) - _HALF_WAY
        words[number, 0] += np.int64(high)
        words[number, 1] += np.int64(low)
    return True


@compiled
def batch(
    states: Floats, targets: Floats, fire: Bools, everyone: bool, bits: Bools, channels: Ints, neighbours: Ints,
    kept: Table, reused: Table, back: Table, outputs: Table, soft: Floats, hard: Floats, masks: Words,
    values: Floats, grads: Floats, words: Words, blocks: Words, packed: Words, trail: Floats, fired: Ints,
    gradient: Floats, by_patch: Floats, sums: F64, total: Ints, last_soft: Floats, last_hard: Floats, losses: F64,
) -> int:  # fmt: skip
    """Compute samples one after another, adding each to `total`.

    Args:
        states, targets: (samples, channels, cells + 1).
        fire: (samples, steps, cells), or (1, steps, cells) when everyone fires.
        everyone: fire is not looked at.
        bits: (samples,), whether a sample's first state is of zeros and ones alone.
        channels: of the loss.
        neighbours: (9, cells + 1).
        kept, reused, back, outputs: of the circuit.
        soft, hard: coefficients (gates, 4) of the soft and of the strongest gates; masks: of the latter on words.
        values, grads, words, blocks, packed, trail, fired, gradient, by_patch, sums: room to work in.
        total: exact sums (gates * 4 + 3, 2).
        last_soft, last_hard: last states (samples, channels, cells + 1).
        losses: soft and hard loss of every sample, (samples, 2).

    Returns:
        -1, or the number of the first sample that is not finite.
    """
    counted = np.zeros(states.shape[1], dtype=np.bool_)
    for channel in channels:
        counted[channel] = True
    steps, gates = fire.shape[1], sums.shape[0]
    three = np.empty(3, dtype=np.float64)
    for sample in range(states.shape[0]):
        masked = fire[0] if everyone else fire[sample]
        trail[0] = states[sample]
        for step in range(steps - 1):
            step_forward(trail[step], trail[step + 1], masked[step], everyone, neighbours, reused, soft, values, fired)
        sums[:] = 0
        gradient[:] = 0
        for step in range(steps - 1, -1, -1):
            step_back(
                trail[step], last_soft[sample], targets[sample], counted, step == steps - 1, masked[step], everyone,
                neighbours, kept, back, outputs, soft, values, grads, fired, gradient, by_patch, sums,
            )  # fmt: skip
        last_hard[sample] = states[sample]
        if bits[sample]:
            hard_rollout(last_hard[sample], masked, everyone, neighbours, reused, masks, words, blocks, packed)
        else:
            for step in range(steps):
                trail[0] = last_hard[sample]
                step_forward(
                    trail[0], last_hard[sample], masked[step], everyone, neighbours, reused, hard, values, fired
                )
        losses[sample, 0] = squared_error(last_soft[sample], targets[sample], channels)
        losses[sample, 1] = squared_error(last_hard[sample], targets[sample], channels)
        three[0], three[1] = losses[sample, 0], losses[sample, 1]
        three[2] = right_bits(last_hard[sample], targets[sample], channels)
        if not (add_words(sums.ravel(), total) and add_words(three, total[gates * 4 :])):
            return sample
    return -1
