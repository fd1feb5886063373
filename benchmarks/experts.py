"""Success of the scripted expert on every composed mechanism, the least first.

    python benchmarks/experts.py --closures 6 --episodes 4

Each mechanism is opened as several of its closures (those that are held out of training, or with
--trained those that are not), each from several starts. Exit status 1 if a mechanism is below
--least.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap.envs import grammar  # noqa: E402
from uncap.envs.composed import row_name  # noqa: E402
from uncap.evaluation.protocol import BUILT_IN, evaluate  # noqa: E402
from uncap.evaluation.statistics import wilson  # noqa: E402

AT_ONCE = 16  # mechanisms


def main() -> None:
    """Print a line for each mechanism that is not opened every time, and how many there are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--closures", type=int, default=6)
    parser.add_argument("--episodes", type=int, default=4, help="of each closure")
    parser.add_argument("--least", type=float, default=0.9, help="success of a mechanism")
    parser.add_argument("--mechanisms", nargs="+", metavar="SEQUENCE", help="default: all")
    parser.add_argument("--trained", action="store_true", help="closures that sets train on")
    options = parser.parse_args()
    every = [s for length in (1, 2, 3) for s in grammar.sequences(length)]
    if options.mechanisms:
        every = [tuple(name.split("-")) for name in options.mechanisms]
        for sequence in every:
            grammar.refuse_invalid(sequence)
    success = {}
    for first in range(0, len(every), AT_ONCE):
        some = every[first : first + AT_ONCE]
        success |= opened(some, options.closures, options.episodes, not options.trained)
        print(f"\r{len(success)} of {len(every)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    n = options.closures * options.episodes
    for sequence, share in sorted(success.items(), key=lambda item: item[1]):
        if share < 1:
            low, high = wilson(round(share * n), n)
            print(f"{'-'.join(sequence):32} {share:.3f}  [{low:.2f}, {high:.2f}]  n={n}")
    shares = np.array(list(success.values()))
    print(f"{len(shares)} mechanisms, mean {shares.mean():.4f}, n={n} each")
    for least in (1.0, 0.95, 0.9):
        print(f"{(shares >= least).sum()} at {least} or more")
    sys.exit(1 if shares.min() < options.least else 0)


def opened(
    sequences: list[grammar.Sequence], closures: int, episodes: int, unseen: bool
) -> dict[grammar.Sequence, float]:
    """Success of the expert by mechanism."""
    rows = {s: [row_name(s, k, unseen) for k in range(closures)] for s in sequences}
    names = [name for of_one in rows.values() for name in of_one]
    table = evaluate(BUILT_IN["expert"], names, episodes, conditioning="none")
    found = {}
    for sequence, of_one in rows.items():
        outcomes = [episode.success for episode in table if episode.task in of_one]
        found[sequence] = float(np.mean(outcomes))
    return found


if __name__ == "__main__":
    main()
