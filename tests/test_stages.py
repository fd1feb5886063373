"""Mechanisms of stages: the grammar, the laws of every stage, what is told, and the expert."""

import itertools

import numpy as np
import pytest

from uncap.envs import CLOSURES, ClosureVectorEnv, grammar, telling
from uncap.envs.batch import ClosureBatch
from uncap.envs.composed import draw_closure, row_name
from uncap.envs.experts import expert_action
from uncap.envs.grammar import KINDS, compose, is_valid, refuse_invalid, sequence_of_row, sequences
from uncap.envs.mechanisms import (
    LID_JOINTS,
    LIFT,
    MECHANISMS,
    MOST_STAGES,
    TILT_Y,
    TWIST,
    X,
)
from uncap.envs.observations import stage_in
from uncap.envs.structure import Closure
from uncap.evaluation.audit import search

N = 8
# A sequence for every kind of stage, and for every pair of them that the grammar allows
PAIRS = sequences(2)
SLIDE_FORCE, TWIST_TORQUE = 60.0, 3.0  # N, N m: about the strongest that the hand can do
NAMED = [name for name, row in CLOSURES.items() if MECHANISMS[row.mechanism].stages]


def text(sequence):
    return "-".join(sequence)


class Bench:
    """Variants of a row with the hand away, and forces on the lid's joints."""

    def __init__(self, sequence, n=N, **choices):
        self.sequence = sequence
        self.batch = ClosureBatch((row_name(sequence, 0),), n, threads=1, **choices)
        self.ids = np.arange(n)
        rngs = [np.random.default_rng(i) for i in self.ids]
        self.batch.reset(self.ids, np.zeros(n, int), rngs)
        self.batch.hand_over(self.ids)  # the forces act without a touch
        self.force = self.batch.sim.bind("qfrc_applied")
        self.stages = MECHANISMS[text(sequence)].stages
        self.n = n

    @property
    def lid(self):
        return self.batch.qpos[:, self.batch.lid_qpos_columns].copy()

    def run(self, steps, **joints):
        """Apply forces (N or N m, by name of the joint) for some control steps."""
        self.force[:] = 0
        for name, value in joints.items():
            self.force[:, self.batch.model.joint(f"lid_{name}").dofadr[0]] = value
        action = np.zeros((self.n, 5))
        action[:, 4] = 1.0
        for _ in range(steps):
            action[:, 2] = np.where(self.batch.measure()["height"] < 0.25, 1.0, 0.0)
            self.batch.step(action)

    def press(self):
        """A force that keeps the lid down where the present stage asks for it (N)."""
        spring = np.array([variant.force for variant in self.batch.pool])[self.batch.variant]
        return np.where(self.batch.now["pressed"], -1.5 * spring, 0.0)

    def do(self, k):
        """Do stage k by forces, until it is done in all simulations."""
        stage = self.stages[k]
        name = LID_JOINTS[stage.joint]
        for _ in range(400):
            doing = self.batch.present_stage() == k
            if not doing.any():
                return
            friction = self.batch.now["friction"][:, stage.joint]
            velocity = self.batch.qvel[:, self.batch.lid_dof_columns][:, stage.joint]
            limit = 1.5 if stage.joint >= TWIST else 0.05  # rad/s, m/s: not to run past the end
            slow = np.abs(velocity) < limit
            push = stage.sign * (1.1 * friction + 0.02 + 2.0 * (stage.joint < TWIST)) * slow * doing
            forces = {name: push}
            if stage.pressed:
                forces["lift"] = self.press() * doing
            self.run(1, **forces)
        raise AssertionError(f"stage {k} was not done")


# the grammar


def test_the_grammar_has_hundreds_of_mechanisms():
    assert [len(sequences(length)) for length in (1, 2, 3)] == [13, 76, 380]
    assert set(itertools.chain(*sequences(1))) == set(KINDS)


@pytest.mark.parametrize(
    "sequence, rule",
    [
        (("ccw", "ccw"), "the same way twice"),
        (("cw", "screwccw"), "a thread or a spring"),
        (("left", "pressright"), "a thread or a spring"),
        (("up", "down"), "nothing is lowered once it was raised"),
        (("screwccw", "right", "pressccw"), "nothing is lowered once it was raised"),
        (("down", "right", "presscw"), "pressed down once"),
        (("screwccw", "right", "screwcw"), "one thread"),
        (("up", "right", "up"), "lifted once"),
        (("swing", "ccw"), "a hinge comes last"),
        (("up", "ccw", "swing"), "a hinge does not swing"),
        (("up", "ccw", "cw", "right"), "1 to 3 stages"),
        (("ccw", "pull"), "no stage 'pull': allowed: right, left"),
    ],
)
def test_an_invalid_sequence_is_refused_by_the_rule_that_it_breaks(sequence, rule):
    with pytest.raises(ValueError, match=rule) as refused:
        refuse_invalid(sequence)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=rule):
        compose(sequence)
    assert text(sequence) not in MECHANISMS


def test_a_closure_of_an_invalid_mechanism_is_refused_in_one_line(ink_bottle):
    with pytest.raises(ValueError, match="'up-down' is not valid: nothing is lowered") as refused:
        Closure(**{**ink_bottle, "mechanism": "up-down"})
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name, problem",
    [
        ("composed-up-down-0", "nothing is lowered once it was raised"),
        ("composed-unseen-swing-ccw-3", "a hinge comes last"),
        ("composed-right-pull-0", "no stage 'pull': allowed: right, left"),
        ("composed-ccw-cw-ccw-cw-0", "1 to 3 stages"),
        ("composed-right", "composed-MECHANISM-K"),
        ("composed-lid-0", "composed-MECHANISM-K"),
    ],
)
def test_a_command_is_told_which_rule_a_row_breaks(name, problem, capsys):
    with pytest.raises(ValueError, match="unknown closure") as refused:
        ClosureVectorEnv(name)
    assert problem in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "ways, problem",
    [
        ((), "needs ways, a .low, high. for each of its 2 stages"),
        (((0.6, 0.8),), "has 2 stages, and needs as many ways, not 1"),
        (((0.6, 0.8), (0.0, 0.8)), "ways must be .low, high. above 0"),
        (((0.6, 0.8), (0.8, 0.6)), "ways must be"),
        (((0.6, 0.8), "ab"), "ways must be"),
        (((0.6, 0.8), 0.7), "ways must be"),
        (5, "ways must be pairs"),
        (None, "ways must be pairs"),
        ("ab", "ways must be pairs"),
    ],
)
def test_ways_that_do_not_fit_the_stages_are_refused(ink_bottle, ways, problem):
    fields = {**ink_bottle, "mechanism": "ccw-cw", "ways": ways}
    with pytest.raises(ValueError, match=problem):
        Closure(**fields)
    assert Closure(**{**fields, "ways": ((0.6, 0.8), (0.5, 0.7))}).stage_ways[1] == (0.5, 0.7)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("bottle", ("screwccw",)),
        ("bottle-left", ("screwcw",)),
        ("canister", ("ccw", "up")),
        ("pill-box", ("pressccw",)),
        ("mug", ("up",)),
        ("flip-mug", ("swing",)),
        ("slide-mug", ("right",)),
    ],
)
def test_a_named_mechanism_is_a_sequence_too(name, expected):
    assert sequence_of_row(CLOSURES[name]) == expected


def test_a_composed_row_depends_on_its_name_only():
    name = row_name(("right", "ccw", "up"), 7)
    row = CLOSURES[name]
    entropy = [0xC03, 7, *b"right-ccw-up"]
    said = grammar.in_words(("right", "ccw", "up"), 7)
    again = draw_closure(np.random.default_rng(entropy), ("right", "ccw", "up"), name, said)
    assert row == again
    assert row != CLOSURES[row_name(("right", "ccw", "up"), 8)]
    assert row.ways != CLOSURES[row_name(("right", "ccw", "up"), 7, unseen=True)].ways


@pytest.mark.parametrize(
    "name",
    ["composed-right-1000", "composed-right-01", "composed-", "composed-0"],
)
def test_other_names_are_no_rows(name):
    assert name not in CLOSURES
    with pytest.raises(KeyError, match="composed-MECHANISM-K"):
        ClosureVectorEnv(name)


# the laws


@pytest.mark.parametrize("sequence", PAIRS, ids=map(text, PAIRS))
def test_no_stage_opens_before_its_turn_and_all_do_in_order(sequence):
    """Whatever the joints are loaded with; and what was done stays done."""
    stages_in_their_order(Bench(sequence))


def stages_in_their_order(bench):
    """Load the joints of the second stage before its turn, and then do both stages."""
    first, second = bench.stages
    if first.joint != second.joint:
        strongest = TWIST_TORQUE if second.joint >= TWIST else SLIDE_FORCE
        loads = {LID_JOINTS[second.joint]: second.sign * strongest}
        if second.pressed:
            loads["lift"] = -SLIDE_FORCE
        if not (first.threaded and second.joint == LIFT):  # there the lift turns the thread
            bench.run(10, **loads)
            moved = np.abs(bench.lid[:, second.joint])
            assert moved.max() < (5e-3 if second.joint >= TWIST else 6e-4)
            assert (bench.batch.progress() < 0.02).all()
    bench.do(0)
    assert bench.batch.progress() == pytest.approx(0.5, abs=0.1)
    bench.run(3)
    reached = bench.lid[:, first.joint]
    if first.joint != second.joint and not bench.batch.released.any():
        back = -first.sign * (TWIST_TORQUE if first.joint >= TWIST else SLIDE_FORCE)
        bench.run(10, **{LID_JOINTS[first.joint]: back})
        slack = 6e-3 if first.joint >= TWIST else 1e-3  # rad, m
        assert np.abs(bench.lid[:, first.joint] - reached).max() < slack  # latched
    bench.do(1)
    assert (bench.batch.progress() == 1.0).all()
    assert (bench.batch.released == MECHANISMS[text(bench.sequence)].separates).all()
    assert (bench.batch.present_stage() == MOST_STAGES).all()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].stage.pressed])
def test_a_live_gate_jams_again(kind):
    bench = Bench((kind,))
    stage = bench.stages[0]
    name = LID_JOINTS[stage.joint]
    torque = (TWIST_TORQUE if stage.joint >= TWIST else SLIDE_FORCE) * stage.sign
    still = 2e-3 if stage.joint >= TWIST else 6e-4
    bench.run(10, **{name: torque})
    assert np.abs(bench.lid[:, stage.joint]).max() < still  # not pressed
    bench.run(10, lift=bench.press())
    for _ in range(200):  # a part of the way
        part = np.abs(bench.lid[:, stage.joint]) > 0.3 * np.abs(
            bench.batch.now["full"][:, stage.joint]
        )
        if part.all():
            break
        friction = bench.batch.now["friction"][:, stage.joint]
        push = np.where(part, 0.0, stage.sign * (1.15 * friction + 0.05))
        bench.run(1, lift=bench.press(), **{name: push})
    assert part.all()
    bench.run(10)  # let go: the spring lifts it
    held = bench.batch.present_stage() == 0
    assert held.sum() >= N / 2
    assert np.abs(bench.lid[held, LIFT]).max() < 2e-4
    stuck = bench.lid[:, stage.joint]
    bench.run(10, **{name: torque})
    assert np.abs(bench.lid[:, stage.joint] - stuck)[held].max() < 2 * still


@pytest.mark.parametrize("kind", ["screwccw", "screwcw"])
def test_a_thread_climbs_by_its_lead_from_where_the_lid_is(kind):
    bench = Bench(("down", kind))
    bench.do(0)
    bench.run(3)
    before = bench.lid
    assert (before[:, LIFT] < -0.002).all()
    for _ in range(60):
        friction = bench.batch.now["friction"][:, TWIST]
        slow = np.abs(bench.batch.qvel[:, bench.batch.lid_dof_columns][:, TWIST]) < 1.0
        turning = slow & (bench.batch.progress() < 0.8)
        bench.run(1, twist=bench.stages[1].sign * (1.1 * friction + 0.02) * turning)
    assert (bench.batch.progress() > 0.75).all()
    held = ~bench.batch.released
    risen = (bench.lid - before)[held]
    lead = np.array([variant.lead for variant in bench.batch.pool])[bench.batch.variant][held]
    expected = lead * np.abs(risen[:, TWIST]) / (2 * np.pi)
    assert held.sum() >= N / 2
    assert risen[:, LIFT] == pytest.approx(expected, abs=3e-4)


def test_a_bayonet_falls_back_to_its_first_stage_when_it_is_turned_back():
    batch = ClosureBatch(("canister",), 2, threads=1)
    ids = np.arange(2)
    batch.reset(ids, np.zeros(2, int), [np.random.default_rng(i) for i in ids])
    batch.hand_over(ids)
    twist = batch.lid_qpos_columns.start + TWIST
    still = np.array([[0, 0, 0, 0, 1.0]] * 2)
    batch.qpos[:, twist] = batch.now["end"] + 0.02
    batch.step(still)
    assert (batch.present_stage() == 1).all()
    batch.qpos[:, twist] = 0.5 * batch.now["twist_end"]
    batch.step(still)
    assert (batch.present_stage() == 0).all()
    assert batch.progress() == pytest.approx(0.25, abs=0.02)


# the state


def staged(n=6, **choices):
    names = [row_name(s, 0) for s in (("right", "ccw", "up"), ("pressleft", "screwccw"), ("cw",))]
    choices = {"autoreset_mode": "Disabled", "threads": 1, "conditioning": "stage"} | choices
    return ClosureVectorEnv(names, n, **choices)


def opened(env, steps, seed=0):
    """Let the expert act, until some stages are done."""
    observation, _ = env.reset(seed=seed)
    for _ in range(steps):
        observation, *_ = env.step(expert_action(env.batch.measure()))
    return observation


def test_a_snapshot_holds_the_stage_and_what_follows_is_the_same():
    env = staged()
    opened(env, 22)
    snapshot = env.snapshot()
    assert len(set(env.batch.present_stage().tolist())) > 1
    futures = []
    for other in (env, staged(), staged(threads=2)):
        other.restore(snapshot)
        states = []
        for _ in range(25):
            observation, *_ = other.step(expert_action(other.batch.measure()))
            states += [observation["state"], observation["task"], other.batch.sim.state.copy()]
        futures.append(states)
    for states in futures[1:]:
        assert all(map(np.array_equal, futures[0], states))


@pytest.mark.parametrize("stage", [-1, MOST_STAGES + 1])
def test_a_snapshot_with_a_stage_that_is_not_there_is_refused(stage):
    env = staged()
    env.reset(seed=0)
    snapshot = env.snapshot()
    snapshot["batch"]["stage"] = np.full(6, stage)
    with pytest.raises(ValueError, match="a stage that the mechanism does not have"):
        env.restore(snapshot)


def test_the_state_tells_the_stage_and_how_far_down_a_lid_is():
    env = staged()
    seen = []
    observation, _ = env.reset(seed=0)
    for _ in range(60):
        assert (stage_in(observation["state"]) == env.batch.present_stage()).all()
        measured = env.batch.measure()
        seen.append(measured["down"][1])  # of the lid that is pressed
        observation, *_ = env.step(expert_action(measured))
    assert max(seen) > 0.5


# what is told


@pytest.mark.parametrize("name", [*NAMED, row_name(("right", "ccw", "up"), 0)])
def test_what_is_told_at_the_first_stage_is_what_is_told_for_good(name):
    row = CLOSURES[name]
    to_do, present = telling.to_do(row), telling.present(row)
    assert np.array_equal(to_do[0], row.vector)
    own = telling.STAGES_SIZE // MOST_STAGES
    for k in range(MOST_STAGES):
        assert np.array_equal(to_do[k][:own], present[k][:own])
    assert not to_do[-1][: telling.STAGES_SIZE].any()
    assert np.array_equal(to_do[-1][telling.OF_ORDER :], row.vector[telling.OF_ORDER :])
    assert np.array_equal(
        present[:, own : own + 2], to_do[:, telling.STAGES_SIZE : telling.OF_ORDER]
    )


def test_the_twists_to_come_are_told_from_the_first_stage_on():
    """They decide how the hand takes the lid, also where it is slid first."""
    rows = [CLOSURES[row_name(s, 0)] for s in (("right", "ccw"), ("right", "cw"), ("ccw", "cw"))]
    twists = slice(telling.STAGES_SIZE, telling.OF_ORDER)
    left, right, both = (telling.to_do(row)[:, twists] for row in rows)
    assert left[0, 0] == 0 < left[0, 1] and left[1, 1] == left[0, 1]
    assert right[0, 1] == 0 > right[0, 0]
    assert both[0, 0] <= 0 < both[0, 1]
    assert not left[2:].any() and not both[-1].any()


def test_what_is_told_follows_the_stages():
    env = staged()
    for _ in range(2):
        opened(env, 0)
        for _ in range(70):
            observation, *_ = env.step(expert_action(env.batch.measure()))
            stage = env.batch.present_stage()
            expected = [env.task_vectors[i % 3, k] for i, k in enumerate(stage)]
            assert np.array_equal(observation["task"], expected)
    assert (stage == MOST_STAGES).any()


def test_the_shuffled_control_tells_of_another_mechanism():
    names = [row_name(s, k) for s in sequences(2)[:20] for k in range(2)]
    own = ClosureVectorEnv(names, 1, conditioning="parameters").task_vectors
    shuffled = ClosureVectorEnv(names, 1, conditioning="shuffled").task_vectors
    stages = slice(0, telling.STAGES_SIZE)
    assert (own[:, telling.OF_MECHANISM :] == shuffled[:, telling.OF_MECHANISM :]).all()
    assert (own[:, stages] != shuffled[:, stages]).any(1).all()
    alone = ClosureVectorEnv(names[3:4], 1, conditioning="shuffled").task_vectors
    assert np.array_equal(alone[0], shuffled[3])  # whatever else there is


# the expert, and cheats

SAMPLE = [s for length in (1, 2, 3) for s in sequences(length)][::13]


def test_the_expert_opens_a_sample_of_all_sequences():
    names = [row_name(s, 3, unseen=True) for s in SAMPLE]
    env = ClosureVectorEnv(names, 2 * len(names), autoreset_mode="Disabled", conditioning="none")
    env.reset(seed=0)
    longest = int(env.max_steps.max())
    succeeded = np.zeros(env.num_envs, bool)
    for _ in range(longest):
        env.batch.step(expert_action(env.batch.measure()))
        measured = env.batch.measure()
        env._tracker.update(measured, np.ones(env.num_envs, bool))
        succeeded |= env.success
    assert succeeded.mean() >= 0.95


@pytest.mark.parametrize(
    "sequence",
    [("down", "right"), ("ccw", "up"), ("pressright", "screwcw"), ("left", "cw", "swing")],
)
def test_success_is_not_had_without_the_hand(sequence):
    found = search(row_name(sequence, 0), seed=0, population=32, rounds=2)
    assert found.cheats == 0


def test_latched_stages_do_not_come_for_nothing():
    """A hand that does nothing leaves every sequence shut."""
    names = [row_name(s, 0) for s in SAMPLE]
    env = ClosureVectorEnv(names, len(names), autoreset_mode="Disabled", conditioning="none")
    env.reset(seed=0)
    env.batch.hand_over(np.arange(len(names)))
    for _ in range(40):
        env.batch.step(np.zeros((len(names), 5)))
    assert env.batch.progress().max() < 1e-2
    assert (env.batch.stage == 0).all()


def test_every_sequence_can_be_drawn_and_is_named_by_itself():
    for sequence in SAMPLE:
        row = CLOSURES[row_name(sequence, 1)]
        assert sequence_of_row(row) == sequence
        assert row.description == grammar.in_words(sequence, 1)
        assert is_valid(sequence)
    assert grammar.in_words(("right", "up")) == "slide it to the right, then lift it"
    assert {KINDS[kind].stage.joint for kind in KINDS} == {X, LIFT, TWIST, TILT_Y}
