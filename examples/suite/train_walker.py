"""Teaches a walker by Q-learning to reach the right end of a corridor; it keeps nothing but prints it."""

import argparse
import random

LENGTH = 12
RATE, DISCOUNT, CURIOSITY = 0.5, 0.9, 0.2


def main() -> None:
    """Walk, learn, and show the way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=50)
    epochs = parser.parse_args().epochs
    dice = random.Random(5)
    worth = [[0.0, 0.0] for _ in range(LENGTH)]
    steps = 0
    for _ in range(epochs):
        place, steps = 0, 0
        while place < LENGTH - 1:
            left, right = worth[place]
            go_right = dice.random() < 0.5 if left == right or dice.random() < CURIOSITY else right > left
            new = max(0, place + (1 if go_right else -1))
            reward = float(new == LENGTH - 1)
            worth[place][go_right] += RATE * (reward + DISCOUNT * max(worth[new]) - worth[place][go_right])
            place, steps = new, steps + 1
    print(f"after {epochs} walks: the last took {steps} steps, of {LENGTH - 1} needed")
    print("".join("→" if right > left else "←" for left, right in worth[:-1]))


if __name__ == "__main__":
    main()
