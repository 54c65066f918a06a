"""Learns which letter follows which in the Zen of Python, and writes lines of its own by it."""

import argparse
import codecs
import contextlib
import io
import json
import math
import random
from collections import Counter
from pathlib import Path

with contextlib.redirect_stdout(io.StringIO()):
    import this


def main() -> None:
    """Count, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--sample", type=int, help="learn so many lines only")
    options = parser.parse_args()
    lines = [f"{line}\n" for line in codecs.decode(this.s, "rot13").splitlines() if line][: options.sample]
    text = "".join(lines)
    follows: dict[str, Counter[str]] = {letter: Counter() for letter in text}
    for letter, following in zip(text, text[1:] + text[0], strict=True):
        follows[letter][following] += 1
    bits = -sum(
        count * math.log2(count / sum(found.values())) for found in follows.values() for count in found.values()
    )
    print(f"{len(lines)} lines, {len(text)} letters: {bits / len(text):.2f} bits per letter")
    dice, letter = random.Random(1), "\n"
    for _ in range(120):
        letter = dice.choices([*follows[letter]], weights=[*follows[letter].values()])[0]
        print(letter, end="")
    print()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    (options.output_dir / "metrics.json").write_text(json.dumps({"bits_per_letter": bits / len(text)}))


if __name__ == "__main__":
    main()
