"""Whole control steps on MuJoCo Warp, beside its physics alone: speed, share, memory.

    python benchmarks/gpu_speed.py --task-sets mt24 composed-64 --sizes 4096 16384

A line per task set and number of worlds:

- steps/s: environment steps per second of wall clock, by uniform random actions, resets included.
- share: raw-physics time divided by whole-step time; 1 means no overhead. After each control
  step, the same physics is done again by `mujoco_warp.step` alone, from the same states with the
  same controls, and everything is put back. Each repeat begins with new episodes. Least, median,
  most of the repeats.
- policy: the same two when an untrained FiLM policy chooses the actions.
- ppo: the same two of PPO as `gpu_train.py` has it, by that policy: whole rollouts with all of
  their updates, the first of which is not counted. Raw physics is that of the line before.
- memory, in GiB: of PyTorch, of Warp, and of all that is on the GPU.
- overflows: worlds in which the engine lacked room, or a solver reached its limit, by kind.

Physics is timed where it runs: by CUDA events on a GPU, so that the copies in between do not count.
Where a share is below `--least`, the kernels that take the time of a control step are listed.
`--out` is written after every line; `gpu_scaling.py` makes a table and a picture of it.
`UNCAP_WARP_DEVICE=cpu` runs it without a GPU, slowly: a graph there holds a step of the physics,
not the whole control step.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import itertools
import math
import os
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import mujoco  # noqa: E402
import torch  # noqa: E402
from one_line import above_zero, in_one_line  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402

SMALLER = "--sizes"  # need less memory

with in_one_line(smaller=SMALLER):
    from uncap.envs.engine_warp import DEVICE, mujoco_warp, warp

from uncap.agents.config import LearnerConfig, NetworkConfig  # noqa: E402
from uncap.agents.device.config import WideConfig  # noqa: E402
from uncap.agents.device.ppo import DevicePPO  # noqa: E402
from uncap.agents.device.worlds import Worlds, moved  # noqa: E402
from uncap.agents.files import write_json  # noqa: E402
from uncap.agents.learner import Learner  # noqa: E402
from uncap.agents.networks import TaskNetwork  # noqa: E402
from uncap.envs import named_set  # noqa: E402
from uncap.envs.device.closures import DeviceClosures  # noqa: E402
from uncap.envs.device.fusing import check_compiler  # noqa: E402
from uncap.envs.device.turns import check_worlds  # noqa: E402
from uncap.envs.device.warp_worlds import WarpWorlds, torch_device  # noqa: E402
from uncap.envs.engines import EngineUnavailable, within_memory  # noqa: E402

GIB = 2**30  # bytes
ACTIONS = 5
WARM_UP = 3  # control steps before anything is timed
PROFILED = 3  # control steps
KERNELS = 15  # that a profile lists
NETWORK = NetworkConfig(body="film", width=384)
PPO = dataclasses.replace(WideConfig().ppo, target_kl=math.inf)  # no update ends early

Work = Callable[[], None]


def main() -> None:
    """Measure every task set with every number of worlds."""
    options = parsed()
    with in_one_line(ValueError, smaller=SMALLER):
        refuse(options)
    began = time.monotonic()
    report = {"machine": machine(), "options": vars(options) | {"out": str(options.out)}}
    report["lines"] = []
    print(*(f"{name} {value}" for name, value in report["machine"].items()), sep=", ")
    print(HEAD)
    for task_set in options.task_sets:
        rows = named_set(task_set).train
        variants = WideConfig().variants_of(len(rows))
        config = LearnerConfig(num_envs=len(rows), variants=variants, network=NETWORK)
        learner = Learner(rows, config, seed=0)
        for n in options.sizes:
            if time.monotonic() - began > 60 * options.minutes:
                print(f"{task_set} {n}: not begun, the time is over")
                continue
            try:
                with within_memory("there is too little memory"):
                    measure(learner, n, options, report, task_set)
            except EngineUnavailable as error:
                print(f"{task_set} {n}: {error}")
            gc.collect()  # what refers to itself keeps its worlds
            torch.cuda.empty_cache()
    sys.exit(0 if report["lines"] else 1)


def refuse(options: argparse.Namespace) -> None:
    """Refuse what cannot be measured, before anything is made; and have torch use Warp's GPU.

    Raises:
        EngineUnavailable: no GPU, and the processor was not asked for.
        ValueError: an unknown task set or compiler, or fewer worlds than rows.
    """
    for task_set in options.task_sets:
        check_worlds(min(options.sizes), len(named_set(task_set).train))
    check_compiler(options.compiler)
    device = torch_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif os.environ.get(DEVICE) != "cpu":
        raise EngineUnavailable(f"there is no GPU ({DEVICE}=cpu measures on the processor)")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task-sets", nargs="+", default=["mt24"])
    whole = above_zero(int)
    parser.add_argument("--sizes", nargs="+", type=whole, default=[4096, 16384], help="worlds")
    parser.add_argument("--steps", type=whole, default=100, help="control steps of a repeat")
    parser.add_argument("--repeats", type=whole, default=3)
    parser.add_argument(
        "--starts", type=whole, default=64, help="precomputed initial states per row"
    )
    parser.add_argument("--no-policy", action="store_true", help="random actions alone")
    parser.add_argument("--compiler", help="torch.compile backend for the control step")
    parser.add_argument("--least", type=float, default=0.9, help="share; below it, list kernels")
    parser.add_argument("--minutes", type=float, default=30.0, help="after which no line is begun")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/gpu_speed.json"))
    return parser.parse_args()


def machine() -> dict[str, str]:
    """What is measured on, and with."""
    is_there = torch.cuda.is_available()
    return {
        "gpu": torch.cuda.get_device_name() if is_there else "none",
        "cuda": str(torch.version.cuda),
        "torch": torch.__version__,
        "warp": warp.__version__,
        "mujoco_warp": mujoco_warp.__version__,
        "mujoco": mujoco.__version__,
        "python": platform.python_version(),
    }


def measure(
    learner: Learner, n: int, options: argparse.Namespace, report: dict, task_set: str
) -> None:
    """Measure n worlds of a task set; what is found is printed, and kept in the report."""
    began = time.perf_counter()
    batch = learner.closures.batch
    worlds = WarpWorlds(batch, n)
    closures = DeviceClosures(
        batch, worlds, starts=options.starts, compiler=options.compiler, seed=0
    )
    players = {"random": Player(closures, worlds, None)}
    for _ in range(WARM_UP):
        players["random"].step()
    synchronize(worlds)
    found = {"task_set": task_set, "rows": len(batch.names), "worlds": n}
    found |= {"startup_seconds": time.perf_counter() - began, "memory": memory(worlds)}
    physics = worlds.captured(worlds.step)
    if not options.no_policy:
        players["policy"] = Player(closures, worlds, network(closures))
    found |= {name: compared(player, physics, options) for name, player in players.items()}
    if not options.no_policy:
        raw = found["policy"]["raw_steps_per_second"]
        found["ppo"] = learning(learner, closures, worlds, raw, options.repeats)
    report["lines"].append(found)
    print(line(found), flush=True)
    write(report, options.out)
    slow = [name for name in players if found[name]["share"]["median"] < options.least]
    if slow:
        found["kernels"] = {"actions": slow[0], **kernels(players[slow[0]])}
        print(*kernel_lines(found["kernels"]), sep="\n", flush=True)
        write(report, options.out)


def write(report: dict, path: pathlib.Path) -> None:
    """Keep what was found so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report)


class Player:
    """Plays all worlds, one control step at a time.

    Args:
        closures: of the worlds.
        worlds: of the engine.
        policy: chooses the actions; None: they are uniform.
    """

    def __init__(self, closures: DeviceClosures, worlds: WarpWorlds, policy: TaskNetwork | None):
        self.closures = closures
        self.worlds = worlds
        qpos = worlds.arrays["qpos"]
        self.n = len(qpos)
        self.resets = torch.zeros((), dtype=torch.int64, device=qpos.device)  # so far
        self._action = qpos.new_zeros(self.n, ACTIONS)
        self._policy = policy
        self._observation, _, _, self._truncated, _ = closures.step(self._action)
        # what a step returns is in the same memory every time where there are graphs
        self._choose = worlds.captured(self._infer) if policy else self._draw

    def _draw(self) -> None:
        self._action.uniform_(-1, 1)

    @torch.no_grad()
    def _infer(self) -> None:
        assert self._policy is not None
        told = self._observation.get("task", self._action[:, :0])
        mean = self._policy(self._observation["state"], told, self.closures.task)
        self._action.copy_(mean + torch.randn_like(mean))  # as in training

    def step(self) -> None:
        """Choose actions, and advance all worlds by one control step."""
        self._choose()
        self._observation, _, _, self._truncated, _ = self.closures.step(self._action)

    def count(self) -> None:
        """Count the episodes that the last step ended."""
        self.resets += self._truncated.sum()


def network(closures: DeviceClosures) -> TaskNetwork:
    """An untrained policy of the closures, on their device."""
    observation, _ = closures.reset()
    state = observation["state"]
    told = observation["task"].shape[1] if "task" in observation else 0
    rows = int(closures.task.max()) + 1
    return TaskNetwork(state.shape[1], told, ACTIONS, rows, NETWORK).to(state.device)


class Stopwatch:
    """Adds up the seconds of work on a device, without waiting for it in between."""

    def __init__(self, is_cuda: bool):
        self._is_cuda = is_cuda
        self._marks: list[tuple] = []

    def run(self, work: Work) -> None:
        """Do the work, which is timed."""
        before = self._mark()
        work()
        self._marks.append((before, self._mark()))

    def _mark(self):
        if not self._is_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> float:
        """Of all that was run."""
        if not self._is_cuda:
            return sum(after - before for before, after in self._marks)
        torch.cuda.synchronize()
        return sum(before.elapsed_time(after) for before, after in self._marks) / 1e3


def compared(player: Player, physics: Work, options: argparse.Namespace) -> dict:
    """Speed and share of a player, see above; the repeats alternate between the two."""
    clear_overflows(player.worlds)
    player.resets.zero_()
    rates, shares, raw = [], [], []
    for _ in range(options.repeats):
        rates.append(rate(player, options.steps))
        whole, alone = seconds_beside_physics(player, physics, options.steps)
        shares.append(alone / whole)
        raw.append(player.n * options.steps / alone)
    return {
        "steps_per_second": spread(rates),
        "raw_steps_per_second": spread(raw),
        "share": spread(shares),
        "resets": int(player.resets),
        "overflows": overflows(player.worlds),
    }


def rate(player: Player, steps: int) -> float:
    """Environment steps per second of wall clock, from new episodes on."""
    player.closures.reset()
    synchronize(player.worlds)
    began = time.perf_counter()
    for _ in range(steps):
        player.step()
    synchronize(player.worlds)
    return player.n * steps / (time.perf_counter() - began)


def learning(
    learner: Learner,
    closures: DeviceClosures,
    worlds: WarpWorlds,
    raw: dict[str, float],
    repeats: int,
) -> dict:
    """Speed and share of PPO, a rollout and its updates at each repeat.

    Args:
        learner: its policy learns.
        closures: where.
        worlds: of the closures.
        raw: physics alone, steps per second.
        repeats: beside the first, which makes its memory.
    """
    clear_overflows(worlds)
    marks: list[float] = []  # s, after each update

    def on_update(steps: int, divergence: float) -> float:
        synchronize(worlds)
        marks.append(time.perf_counter())
        return len(marks) / (repeats + 1)

    device = closures.task.device
    with moved(learner.policy, device):
        own = Worlds(closures, len(learner.tasks), torch.Generator(device).manual_seed(0))
        DevicePPO(learner.policy, own, WideConfig(ppo=PPO), seed=0).run(on_update)
    steps = PPO.rollout * len(own)
    rates = [steps / (after - before) for before, after in itertools.pairwise(marks)]
    return {
        "steps_per_second": spread(rates),
        "raw_steps_per_second": raw,
        "share": spread([rate / raw["median"] for rate in rates]),
        "overflows": overflows(worlds),
    }


def seconds_beside_physics(player: Player, physics: Work, steps: int) -> tuple[float, float]:
    """Seconds in whole control steps, and in the same physics alone, from new episodes on.

    Args:
        player: of the worlds.
        physics: advances the worlds by one control step.
        steps: control steps.
    """
    player.closures.reset()
    arrays = player.worlds.arrays  # states, and models: the rules of the lids write into both
    before, after = ({name: array.clone() for name, array in arrays.items()} for _ in range(2))
    is_cuda = player.worlds.engine.device.is_cuda
    whole, alone = Stopwatch(is_cuda), Stopwatch(is_cuda)
    for _ in range(steps):
        copy(arrays, before)
        whole.run(player.step)
        player.count()
        copy(arrays, after)
        copy({name: array for name, array in before.items() if name != "ctrl"}, arrays)
        alone.run(physics)
        copy(after, arrays)
    return whole.seconds(), alone.seconds()


def copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    """Copy arrays by name."""
    for name, array in source.items():
        target[name].copy_(array)


def synchronize(worlds: WarpWorlds) -> None:
    """Wait for the device."""
    warp.synchronize_device(worlds.engine.device)
    if worlds.engine.device.is_cuda:
        torch.cuda.synchronize()


def spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median and most."""
    return {"least": min(values), "median": statistics.median(values), "most": max(values)}


def overflow_bits(worlds: WarpWorlds) -> Tensor:
    """(n,) what each world lacked room for since this was cleared, a bit for each kind."""
    return warp.to_torch(worlds.engine.data.overflow)


def clear_overflows(worlds: WarpWorlds) -> None:
    """Forget them."""
    overflow_bits(worlds).zero_()


def overflows(worlds: WarpWorlds) -> dict[str, int]:
    """Worlds by what they lacked room for, or which limit they reached."""
    bits = overflow_bits(worlds)
    counts = {kind.name: int((bits & int(kind) != 0).sum()) for kind in mujoco_warp.OverflowType}
    return {name: count for name, count in counts.items() if count}


def memory(worlds: WarpWorlds) -> dict[str, float]:
    """GiB on the GPU; nothing without one."""
    device = worlds.engine.device
    if not device.is_cuda:
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "torch": torch.cuda.memory_reserved() / GIB,
        "warp": warp.get_mempool_used_mem_current(device) / GIB,
        "all": (total - free) / GIB,
    }


def kernels(player: Player) -> dict:
    """Where the time of a control step goes, in milliseconds: by kind, and the longest kernels."""
    is_cuda = player.worlds.engine.device.is_cuda
    activity = ProfilerActivity.CUDA if is_cuda else ProfilerActivity.CPU
    try:
        with profile(activities=[activity]) as seen:
            for _ in range(PROFILED):
                player.step()
            synchronize(player.worlds)
    except RuntimeError as error:  # a driver that refuses
        return {"refused": str(error).splitlines()[0]}
    attribute = "self_device_time_total" if is_cuda else "self_cpu_time_total"  # microseconds
    found = [
        {
            "name": event.key,
            "milliseconds": getattr(event, attribute) / 1e3 / PROFILED,
            "calls": event.count / PROFILED,
        }
        for event in seen.key_averages()
    ]
    found.sort(key=lambda kernel: -kernel["milliseconds"])
    kinds: dict[str, float] = {}
    for kernel in found:
        kind = kind_of(kernel["name"])
        kinds[kind] = kinds.get(kind, 0.0) + kernel["milliseconds"]
    return {"kinds": kinds, "longest": found[:KERNELS]}


def kind_of(kernel: str) -> str:
    """Whose a kernel is."""
    if "cuda_kernel_forward" in kernel:  # how Warp names its own
        return "physics"
    return "copies" if kernel.startswith(("Mem", "mem")) else "around it"


HEAD = (
    f"{'task set':14} {'worlds':>6}  {'actions':7} {'steps/s':>10} {'physics/s':>10}  "
    f"{'share':18} {'resets':>7}  memory (GiB: torch, Warp, all)  overflows"
)


def line(found: dict) -> str:
    """What is printed of a task set with so many worlds."""
    said = []
    for actions in ("random", "policy", "ppo"):
        if actions not in found:
            continue
        speed = found[actions]
        share = " ".join(f"{speed['share'][name]:.3f}" for name in ("least", "median", "most"))
        gib = ", ".join(f"{value:.2f}" for value in found["memory"].values()) or "-"
        lacked = " ".join(f"{kind} {count}" for kind, count in speed["overflows"].items())
        said.append(
            f"{found['task_set']:14} {found['worlds']:6}  {actions:7} "
            f"{speed['steps_per_second']['median']:10,.0f} "
            f"{speed['raw_steps_per_second']['median']:10,.0f}  {share:18} "
            f"{speed.get('resets', '-'):>7}  {gib}  {lacked or 'none'}"
        )
    return "\n".join(said)


def kernel_lines(found: dict) -> list[str]:
    """What is printed of a profile."""
    if "refused" in found:
        return [f"    no profile: {found['refused']}"]
    kinds = ", ".join(f"{kind} {ms:.2f} ms" for kind, ms in found["kinds"].items())
    said = [f"    a control step ({found['actions']}): {kinds}"]
    for kernel in found["longest"]:
        said.append(
            f"    {kernel['milliseconds']:9.3f} ms  x{math.ceil(kernel['calls']):<5} "
            f"{kernel['name'][:70]}"
        )
    return said


if __name__ == "__main__":
    main()
