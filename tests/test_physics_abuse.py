"""The physics under abuse: nothing is NaN, nothing is entered deeply, what is left alone rests.

`abuse` makes any number of control steps; run as a program, this file makes a million:
`python tests/test_physics_abuse.py [control steps]`.
"""

# mujoco's extension modules come without stubs: pyright knows none of their names
# pyright: reportAttributeAccessIssue=false

import dataclasses
import sys
import time

import mujoco
import numpy as np
import pytest
from rows import COMPOSED

from uncap.envs import CLOSURES
from uncap.envs.batch import STEP_POSITION, ClosureBatch
from uncap.envs.scene import build
from uncap.envs.variation import LEVELS

STEPS = 60  # control steps of abuse in an episode
AWAY = 10  # control steps in which the hand then backs off
ALONE = 40  # control steps (2 s) for which it is then left alone
# What the limits rest on is in docs/physics.md
DEEP = 0.003  # m of a contact: the hand's speed of 0.6 m/s times one physics step
REST = 1e-3  # J: a lid of 40 g at 0.2 m/s
# Share of states with a contact deeper than DEEP: impacts, which are caught a physics step late
IMPACTS = {"random": 0.002, "bang-bang": 0.02, "slamming": 0.05, "pressing": 0.04}
LASTING = 0.015  # share of states with one that is deeper for a whole control step
STILL_ROLLING = 0.01  # share of lids, or one: on their rim, for up to three seconds
ROLLS = 0.1  # J that such a lid has at most
STILL_RIGHTING = 0.04  # share of arms: bent ones right their hands for longer
DEEPEST = 0.05  # m: a lid that slips out of the fingers at 10 m/s, one physics step


def randomly(batch, rng, step):
    return rng.uniform(-1, 1, (batch.n, 5))


class BangBang:
    """Full actions, each of which lasts for some steps."""

    def __call__(self, batch, rng, step):
        if step == 0:
            self.action = rng.choice([-1.0, 1.0], (batch.n, 5))
        flips = rng.random((batch.n, 5)) < 0.15
        self.action = np.where(flips, -self.action, self.action)
        return self.action


def slam(batch, rng, step):
    """Back off, then drive fist or open hand at full speed at the lid, from above or aside."""
    offset = batch.measure()["grip_offset"]
    towards = np.clip(offset / STEP_POSITION, -1, 1)
    back = -np.sign(towards)
    back[:, 2] = 1.0
    phase = step % 20
    move = back if phase < 8 else np.sign(towards)
    fingers = np.where(np.arange(batch.n) % 2, -1.0, 1.0)
    return np.column_stack([move, np.sign(rng.normal(size=batch.n)), fingers])


def press(batch, rng, step):
    """Close the fingers over or around the lid, and push down with all force, and twist."""
    offset = batch.measure()["grip_offset"]
    move = np.clip(4 * offset / STEP_POSITION, -1, 1)
    fingers = np.where(np.arange(batch.n) % 3 == 0, -1.0, 1.0 if step < 20 else -1.0)
    if step >= 20:
        move[:, 2] = -1.0
    twist = np.where(np.arange(batch.n) % 2, 1.0, -1.0)
    return np.column_stack([move, twist, np.broadcast_to(fingers, batch.n)])


WAYS = {"random": randomly, "bang-bang": BangBang(), "slamming": slam, "pressing": press}


class Look:
    """Looks into the simulations of a batch with MuJoCo's own functions."""

    def __init__(self, batch):
        self.batch = batch
        self.scenes = {}  # (variant, whether the lid is free) -> model and data

    def scene(self, i):
        """Model and data of simulation i, posed as it is."""
        batch = self.batch
        key = (int(batch.variant[i]), bool(batch.released[i]))
        if key not in self.scenes:
            model = build(batch.pool[key[0]], free=key[1]).compile()
            self.scenes[key] = model, mujoco.MjData(model)
        model, data = self.scenes[key]
        data.qpos[:] = batch.qpos[i]
        data.mocap_pos[:] = batch.mocap_pos[i]
        data.mocap_quat[:] = batch.mocap_quat[i]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        return model, data

    def contacts(self, i):
        """Depth (m) of the deepest contact of every two bodies of simulation i, by their names."""
        model, data = self.scene(i)
        mujoco.mj_collision(model, data)
        depths = {}
        for contact in data.contact[: data.ncon]:
            bodies = [model.body(model.geom_bodyid[geom]).name for geom in contact.geom]
            pair = tuple(sorted(bodies))
            depths[pair] = max(depths.get(pair, 0.0), -contact.dist)
        return depths

    def energy(self, i):
        """Kinetic energy (J) of the arm and of the lid of simulation i."""
        model, data = self.scene(i)
        mujoco.mj_crb(model, data)
        columns = self.batch.lid_dof_columns
        arm = self.batch.qvel[i].copy()
        arm[columns] = 0.0
        lid = self.batch.qvel[i] - arm
        return tuple(0.5 * float(speed @ _times_mass(model, data, speed)) for speed in (arm, lid))


def _times_mass(model, data, speed):
    product = np.zeros(model.nv)
    mujoco.mj_mulM(model, data, product, speed)
    return product


@dataclasses.dataclass
class Findings:
    """What was seen of all simulations.

    Attributes:
        steps: control steps of all simulations.
        finite: whether every number always was.
        diverged: how often a simulation was put back.
        depths: (m) of the deepest contact of each state that was looked at.
        lasting: (m) of the deepest of those that were there one control step before, too: the
            smaller of both depths.
        deepest, longest: (m), row and bodies of the deepest of `depths` and of `lasting`.
        arm, lid: (J) kinetic energies after two seconds alone.
    """

    steps: int = 0
    finite: bool = True
    diverged: int = 0
    depths: list[float] = dataclasses.field(default_factory=list)
    lasting: list[float] = dataclasses.field(default_factory=list)
    deepest: tuple = (0.0,)
    longest: tuple = (0.0,)
    arm: list[float] = dataclasses.field(default_factory=list)
    lid: list[float] = dataclasses.field(default_factory=list)

    def look(self, batch, before, now):
        """Take in the contacts of all simulations, one control step before and now."""
        for i in range(batch.n):
            row = batch.names[batch.task[i]]
            stayed = {pair: min(now[i][pair], before[i].get(pair, 0.0)) for pair in now[i]}
            deepest = _deepest(row, now[i])
            longest = _deepest(row, stayed)
            self.depths.append(deepest[0])
            self.lasting.append(longest[0])
            self.deepest = max(self.deepest, deepest)
            self.longest = max(self.longest, longest)

    def step(self, batch, actions):
        batch.step(actions)
        self.steps += batch.n
        self.finite &= bool(np.isfinite(batch.sim.state).all())


def _deepest(row, pairs):
    """Depth (m), row and bodies of the deepest of contacts."""
    bodies = max(pairs, key=pairs.get, default=())
    return pairs.get(bodies, 0.0), row, bodies


def abuse(batch, way, seed, steps=STEPS, every=10):
    """An episode of abuse, after which the hand backs off and everything is left alone.

    Args:
        batch: simulations, which are reset.
        way: of WAYS.
        seed: of starts and actions.
        steps: control steps of abuse.
        every: so many control steps are between two looks at the contacts.
    """
    found = Findings()
    eyes = Look(batch)
    rng = np.random.default_rng(seed)
    ids = np.arange(batch.n)
    rngs = [np.random.default_rng([seed, i]) for i in ids]
    diverged_before = batch.diverged.sum()
    batch.reset(ids, ids % len(batch.names), rngs)
    for step in range(steps):
        found.step(batch, WAYS[way](batch, rng, step))
        if step % every == every - 2:
            before = [eyes.contacts(i) for i in ids]
        if step % every == every - 1:
            found.look(batch, before, [eyes.contacts(i) for i in ids])
    for step in range(AWAY + ALONE):
        up = 1.0 if step < AWAY else 0.0
        found.step(batch, np.tile([0.0, 0.0, up, 0.0, 1.0], (batch.n, 1)))
    energies = np.array([eyes.energy(i) for i in ids])
    found.arm = energies[:, 0].tolist()
    found.lid = energies[:, 1].tolist()
    found.diverged = int(batch.diverged.sum() - diverged_before)
    return found


def soak(control_steps, per_row=4, threads=0):
    """Abuse of all rows, in every way and at every level, for so many control steps or more."""
    began = time.perf_counter()
    found = {}
    rounds = 0
    done = 0
    names = (*CLOSURES, *COMPOSED)
    batches = {
        level: ClosureBatch(names, per_row * len(names), threads, level=level) for level in LEVELS
    }
    while done < control_steps:
        for level, batch in batches.items():
            for way in WAYS:
                one = abuse(batch, way, seed=rounds)
                done += one.steps
                found.setdefault((level, way), []).append(one)
        rounds += 1
    for (level, way), several in found.items():
        print(level, way, _line(several))
    print(f"{done} control steps in {time.perf_counter() - began:.0f} s")
    return found


def _line(several):
    """What an episode of abuse, or several, found."""
    depths, lasting, arm, lid = (
        np.concatenate([getattr(one, name) for one in several])
        for name in ("depths", "lasting", "arm", "lid")
    )
    return (
        f"finite {all(one.finite for one in several)}, "
        f"diverged {sum(one.diverged for one in several)}, "
        f"beyond 3 mm {(depths > DEEP).mean():.4f}, 99.9 % {np.quantile(depths, 0.999):.4f}, "
        f"deepest {max(one.deepest for one in several)}, "
        f"lasting {(lasting > DEEP).mean():.5f}, longest {max(one.longest for one in several)}, "
        f"arm beyond {REST} J {(arm > REST).mean():.4f} most {arm.max():.1e}, "
        f"lid {(lid > REST).mean():.4f} most {lid.max():.1e}"
    )


def refuse(found, way):
    """Fail where what was found is beyond the limits."""
    assert found.finite
    assert found.diverged == 0
    assert (np.array(found.depths) > DEEP).mean() <= IMPACTS[way]
    assert (np.array(found.lasting) > DEEP).mean() <= LASTING, found.longest
    assert found.deepest[0] < DEEPEST, found.deepest
    assert (np.array(found.arm) > REST).mean() <= STILL_RIGHTING
    moving = np.array(found.lid)[np.array(found.lid) > REST]
    assert len(moving) <= max(1, STILL_ROLLING * len(found.lid))
    assert moving.max(initial=0.0) < ROLLS


@pytest.mark.parametrize("way, level", zip(WAYS, LEVELS, strict=True))
def test_rough_handling_breaks_nothing(way, level):
    names = (*CLOSURES, *COMPOSED)
    batch = ClosureBatch(names, len(names), variants=1, level=level)
    refuse(abuse(batch, way, seed=1, steps=40, every=7), way)


if __name__ == "__main__":
    soak(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
