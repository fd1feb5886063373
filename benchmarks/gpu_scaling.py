"""The scaling table and its picture: control steps per second against the number of worlds.

    python benchmarks/gpu_scaling.py OUT/speed.json OUT/speed-composed.json --out scaling.md

From what `gpu_speed.py` has written: a line for each task set and number of worlds, with the
environment steps per second by random actions, the share of physics alone (least to most of the
repeats), the same with a policy that acts and with PPO, and memory on the GPU. The picture lies
beside the table, `scaling.png`: steps per second, with physics alone dashed, and shares.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import matplotlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from uncap.agents.files import read_json, replacing, write_text  # noqa: E402

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (after the back end is chosen)

Line = dict[str, Any]  # of a speed.json, see `gpu_speed.measure`
PLAYERS = {"random": "random actions", "policy": "a policy acts", "ppo": "PPO"}
AIM = 0.9  # share of physics alone
REMEDY = "measure again with benchmarks/gpu_speed.py"
HEAD = (
    "| task set | worlds | physics alone | "
    + " | ".join(f"{words} | share" for words in PLAYERS.values())
    + " | GiB on the GPU | without room |"
)


def lines_of(paths: Sequence[pathlib.Path]) -> tuple[str, list[Line]]:
    """The machine, in words, and the lines of all files, by task set and number of worlds.

    Raises:
        ValueError: no lines, or not a file of `gpu_speed.py`, or other machines.
    """
    reports = [read_json(path, REMEDY) for path in paths]
    machines = [_machine(report, path) for report, path in zip(reports, paths, strict=True)]
    for path, machine in zip(paths, machines, strict=True):
        if machine != machines[0]:
            raise ValueError(f"{path} is of another machine than {paths[0]}: a table for each")
    # a later file has the last word
    found = {(line["task_set"], line["worlds"]): line for own in reports for line in own["lines"]}
    if not found:
        raise ValueError(f"nothing was measured in {', '.join(map(str, paths))}: {REMEDY}")
    sets = list(dict.fromkeys(task_set for task_set, _ in found))
    return machines[0], sorted(
        found.values(), key=lambda line: (sets.index(line["task_set"]), line["worlds"])
    )


def _machine(report: dict[str, Any], path: pathlib.Path) -> str:
    machine, lines = report.get("machine"), report.get("lines")
    if not isinstance(machine, dict) or not isinstance(lines, list):
        raise ValueError(f"{path} is no file of gpu_speed.py: {REMEDY}")
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def table(machine: str, lines: Sequence[Line]) -> str:
    """The table, in Markdown."""
    columns = HEAD.count("|") - 1
    rule = "|" + "---|" * columns
    return "\n".join([f"Measured on {machine}.", "", HEAD, rule, *map(_row, lines), ""])


def _row(line: Line) -> str:
    raw = line["random"]["raw_steps_per_second"]["median"]
    cells = [f"`{line['task_set']}`", f"{line['worlds']:,}", f"{raw:,.0f}"]
    for player in PLAYERS:
        cells += _cells(line.get(player))
    memory = line["memory"].get("all")
    cells.append("-" if memory is None else f"{memory:.1f}")
    cells.append(_lacked(line))
    return f"| {' | '.join(cells)} |"


def _cells(speed: dict[str, Any] | None) -> tuple[str, str]:
    """Steps per second and share of a player, if it was measured."""
    if speed is None:
        return "-", "-"
    share = speed["share"]
    spread = f"{share['median']:.2f} ({share['least']:.2f} to {share['most']:.2f})"
    return f"{speed['steps_per_second']['median']:,.0f}", spread


def _lacked(line: Line) -> str:
    """What worlds lacked room for, by kind; whoever played."""
    counts: dict[str, int] = {}
    for player in PLAYERS.keys() & line.keys():
        for kind, count in line[player]["overflows"].items():
            counts[kind] = counts.get(kind, 0) + count
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "none"


def draw(lines: Sequence[Line], path: pathlib.Path) -> None:
    """Write the picture, a PNG."""
    figure, (speed, share) = plt.subplots(1, 2, figsize=(10.0, 4.2))
    for task_set in dict.fromkeys(line["task_set"] for line in lines):
        for player, words in PLAYERS.items():
            own = [line for line in lines if line["task_set"] == task_set and player in line]
            if own:
                _draw_player(speed, share, own, player, f"{task_set}, {words}")
    share.axhline(AIM, color="gray", linewidth=0.8, linestyle=":")
    share.set_ylim(0, 1.05)
    for axes, words in ((speed, "environment steps per second"), (share, "share of physics alone")):
        axes.set_xscale("log", base=2)
        axes.set_xlabel("worlds")
        axes.set_ylabel(words)
        axes.grid(alpha=0.3)
    speed.set_yscale("log")
    speed.legend(fontsize=8)
    figure.tight_layout()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
    plt.close(figure)


def _draw_player(speed: Any, share: Any, lines: Sequence[Line], player: str, label: str) -> None:
    worlds = [line["worlds"] for line in lines]

    def medians(name: str) -> list[float]:
        return [line[player][name]["median"] for line in lines]

    (drawn,) = speed.plot(worlds, medians("steps_per_second"), "o-", label=label, linewidth=1.6)
    share.plot(worlds, medians("share"), "o-", color=drawn.get_color(), linewidth=1.6)
    if player == "random":
        raw = medians("raw_steps_per_second")
        speed.plot(worlds, raw, "--", color=drawn.get_color(), linewidth=1.0)


def main() -> None:
    """Read, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path, help="of gpu_speed.py")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("gpu_scaling.md"))
    options = parser.parse_args()
    picture = options.out.with_suffix(".png")
    try:
        machine, lines = lines_of(options.files)
        text = table(machine, lines)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.out, text)
        draw(lines, picture)
    except KeyError as error:
        raise SystemExit(f"error: a line of these files has no {error}: {REMEDY}") from None
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {' '.join(str(error).split())}") from None
    print(text, f"table: {options.out}, picture: {picture}", sep="\n")


if __name__ == "__main__":
    main()
