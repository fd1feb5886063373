"""Which kind of stage the sentence encoder takes a wording for that no policy was trained on.

    python benchmarks/wordings.py

Needs `uncap[language]`. For each kind: its wording for tests, and the trained wordings whose
vectors are nearest to it.
"""

from __future__ import annotations

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap.envs.conditioning import sentences  # noqa: E402
from uncap.envs.grammar import KINDS  # noqa: E402

NEAREST = 3


def main() -> None:
    """Print a line for each kind, and for how many the nearest trained wording is of that kind."""
    trained = [(kind, wording) for kind, row in KINDS.items() for wording in row.wordings]
    tested = [(kind, wording) for kind, row in KINDS.items() for wording in row.tested]
    known = unit(sentences([wording for _, wording in trained]))  # (trained, size)
    new = unit(sentences([wording for _, wording in tested]))  # (tested, size)
    right = 0
    for (kind, wording), cosines in zip(tested, new @ known.T, strict=True):
        order = np.argsort(-cosines)[:NEAREST]
        near = ", ".join(f"{trained[k][0]} {cosines[k]:.2f}" for k in order)
        right += trained[order[0]][0] == kind
        print(f"{kind:10} {wording}: {near}")
    print(f"the nearest is of the same kind for {right} of {len(tested)}")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, size) of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
