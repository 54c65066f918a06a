"""Learns to read seven-segment digits through noise: softmax regression by mini-batches, without any library."""

import argparse
import json
import math
import random
from pathlib import Path

SEGMENTS = [
    "1110111",
    "0010010",
    "1011101",
    "1011011",
    "0111010",
    "1101011",
    "1101111",
    "1010010",
    "1111111",
    "1111011",
]
NOISE = 0.05
RATE = 0.2


def seen(digit: int, dice: random.Random) -> list[float]:
    """Return the segments of a digit, some of them wrong, and a constant."""
    return [float(int(bit) ^ (dice.random() < NOISE)) for bit in SEGMENTS[digit]] + [1.0]


def likely(weights: list[list[float]], image: list[float]) -> list[float]:
    """Return the probability of each digit."""
    scores = [sum(w * x for w, x in zip(row, image, strict=True)) for row in weights]
    powers = [math.exp(score - max(scores)) for score in scores]
    return [power / sum(powers) for power in powers]


def main() -> None:
    """Train, print a line per epoch, and write what was learned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=20)
    options = parser.parse_args()
    dice = random.Random(7)
    images = [(digit, seen(digit, dice)) for digit in range(10) for _ in range(60)]
    held_back = [(digit, seen(digit, dice)) for digit in range(10) for _ in range(20)]
    weights = [[0.0] * 8 for _ in range(10)]
    accuracy = 0.0
    for epoch in range(options.epochs):
        dice.shuffle(images)
        for start in range(0, len(images), options.batch_size):
            batch = images[start : start + options.batch_size]
            for digit, image in batch:
                for label, probability in enumerate(likely(weights, image)):
                    step = RATE * ((label == digit) - probability) / len(batch)
                    weights[label] = [w + step * x for w, x in zip(weights[label], image, strict=True)]
        right = 0
        for digit, image in held_back:
            probabilities = likely(weights, image)
            right += probabilities.index(max(probabilities)) == digit
        accuracy = right / len(held_back)
        print(f"epoch {epoch + 1}/{options.epochs}: {accuracy:.1%} of the digits held back are read right")
    options.output_dir.mkdir(parents=True, exist_ok=True)
    (options.output_dir / "metrics.json").write_text(json.dumps({"accuracy": accuracy, "weights": weights}))


if __name__ == "__main__":
    main()
