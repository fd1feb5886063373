"""Make a policy of the package from a run: what acting needs of it.

python train.py compare benchmarks/default.toml
python benchmarks/pretrained.py runs/default/cells/default-seed0 pretrained
python train.py compare benchmarks/mt16.toml
python benchmarks/pretrained.py runs/mt16/cells/one-policy-FiLM-seed0 pretrained-mt16
"""

from __future__ import annotations

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap.agents.pretrained import NAMES, write  # noqa: E402
from uncap.evaluation.runs import open_run, read_results  # noqa: E402


def main() -> None:
    """Write the folder of a name, and print its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=pathlib.Path, help="run folder")
    parser.add_argument("name", choices=list(NAMES), help="what stands for it on command lines")
    options = parser.parse_args()
    folder = NAMES[options.name]
    write(open_run(options.run), options.run / "checkpoint", folder)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    success = read_results(options.run).get("mean_success")
    print(f"{folder}: {size:,} bytes; success of the run {success}")


if __name__ == "__main__":
    main()
