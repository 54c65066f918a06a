"""Finds three heaps of points by k-means, and how far points that it has not seen lie from them (cross-validation)."""

import argparse
import json
import random
from pathlib import Path

Point = tuple[float, float]
HEAPS: list[Point] = [(0.0, 0.0), (6.0, 1.0), (2.0, 7.0)]


def distance(one: Point, other: Point) -> float:
    """Return the squared distance."""
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2


def centres_of(points: list[Point], *, rounds: int = 20) -> list[Point]:
    """Return three centres, from three points far apart."""
    centres = [points[0]]
    while len(centres) < len(HEAPS):
        centres.append(max(points, key=lambda point: min(distance(point, centre) for centre in centres)))
    for _ in range(rounds):
        nearest: list[list[Point]] = [[] for _ in centres]
        for point in points:
            nearest[min(range(len(centres)), key=lambda index: distance(point, centres[index]))].append(point)
        centres = [
            (sum(x for x, _ in heap) / len(heap), sum(y for _, y in heap) / len(heap)) for heap in nearest if heap
        ]
    return centres


def main() -> None:
    """Cluster each fold's points, and measure with those that it left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=3)
    options = parser.parse_args()
    dice = random.Random(3)
    points = [(dice.gauss(x, 1), dice.gauss(y, 1)) for _ in range(100) for x, y in HEAPS]
    dice.shuffle(points)
    errors = []
    for fold in range(options.folds):
        centres = centres_of([point for index, point in enumerate(points) if index % options.folds != fold] or points)
        left_out = points[fold :: options.folds]
        errors.append(sum(min(distance(point, centre) for centre in centres) for point in left_out) / len(left_out))
        print(f"fold {fold + 1}/{options.folds}: mean squared distance {errors[-1]:.3f}")
    options.output_dir.mkdir(parents=True, exist_ok=True)
    (options.output_dir / "metrics.json").write_text(json.dumps({"errors": errors}))


if __name__ == "__main__":
    main()
