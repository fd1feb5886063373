"""Measures of transfers, on curves that are written down."""

import pytest

from uncap.evaluation import gains
from uncap.evaluation.arms import ARMS
from uncap.evaluation.statistics import wilson

ONCE = {"steps": [0], "success": [0.25], "last": [0, 0, 0, 1]}


def curve(*success, last=(), sources=None):
    steps = [1000 * k for k in range(len(success))]
    seconds = [float(k) for k in range(len(success))]
    found = {"steps": steps, "seconds": seconds, "success": list(success), "last": list(last)}
    return found | ({} if sources is None else {"sources": sources})


def test_the_measures_of_two_arms_are_known():
    found = gains.measured(
        {
            "zero_shot": [ONCE],
            "fine_tune": [curve(0.25, 0.75, 1.0, last=[1, 1, 1, 1], sources=0.5)],
            "scratch": [curve(0.0, 0.0, 0.5, last=[0, 0, 1, 1], sources=None)],
        }
    )
    assert found["zero_shot"] == 0.25
    assert found["zero_shot_episodes"] == 4
    assert found["zero_shot_low"] < 0.25 < found["zero_shot_high"]
    assert found["jumpstart"] == 0.25  # 0.25 with the source, 0 without
    assert found["final"] == {"zero_shot": 0.25, "fine_tune": 1.0, "scratch": 0.5}
    assert found["best_control"] == "scratch"
    assert found["gain"]["fine_tune"][0] == 0.5
    assert found["gain"]["zero_shot"][0] == -0.25
    assert found["sources"] == {"fine_tune": 0.5}
    # trapezoids over the steps: (0.25 + 0.75) / 2 and (0.75 + 1) / 2, each half of them
    assert found["area"]["fine_tune"] == pytest.approx(0.6875)
    assert found["area"]["scratch"] == pytest.approx(0.125)


def test_a_threshold_counts_where_it_is_reached_for_good():
    unsteady = curve(0.0, 0.9, 0.4, 0.9)
    found = gains.measured({"zero_shot": [ONCE], "fine_tune": [unsteady]})
    reached = found["reached"]["fine_tune"]
    assert reached["0.5"]["steps"][0] > 2000  # not the peak before
    assert reached["0.5"]["seconds"][0] > 2
    assert "fine_tune" not in found["interval"]  # no outcomes of single episodes, no interval


def test_seeds_that_never_get_there_are_censored_and_not_left_out():
    early, never = curve(0.0, 1.0, 1.0), curve(0.0, 0.0, 0.0)
    of_one = gains.measured({"zero_shot": [ONCE], "fine_tune": [early, early, never]})
    times = of_one["reached"]["fine_tune"]["0.8"]
    assert times["steps"][2] is None
    assert times["median_steps"] == times["steps"][0]
    of_two = gains.measured({"zero_shot": [ONCE], "fine_tune": [early, never, never]})
    assert of_two["reached"]["fine_tune"]["0.8"]["median_steps"] is None


def test_a_seed_that_was_given_up_early_counts_until_then():
    """Two at risk at 100 s, of whom one arrives: Kaplan and Meier's 1 x (1 - 1/2) is one half."""

    def timed(last, *success):
        return curve(*success) | {"seconds": [0.0, last]}

    found = gains.measured(
        {"zero_shot": [ONCE], "fine_tune": [timed(100, 0, 1), timed(120, 0, 1), timed(60, 0, 0)]}
    )
    times = found["reached"]["fine_tune"]["0.8"]
    assert times["seconds"] == [100, 120, None]
    assert times["median_seconds"] == 100
    assert times["median_steps"] == 1000  # three at risk, of whom two arrive at once: 1/3


def test_the_upper_bound_is_not_the_best_control():
    found = gains.measured(
        {
            "zero_shot": [ONCE],
            "fine_tune": [curve(0.0, 0.75, last=[1, 1, 1, 0])],
            "scratch": [curve(0.0, 0.25, last=[1, 0, 0, 0])],
            "expert_taught": [curve(0.0, 1.0, last=[1, 1, 1, 1])],
        }
    )
    assert found["best_control"] == "scratch"
    assert found["gain"]["fine_tune"][0] == 0.5
    assert "expert_taught" not in found["gain"]


def test_a_gain_needs_a_control_and_the_same_starts():
    alone = gains.measured({"zero_shot": [ONCE], "fine_tune": [curve(0.0, 1.0, last=[1] * 4)]})
    assert alone["best_control"] is None
    assert alone["gain"] == {}
    other = gains.measured(
        {
            "zero_shot": [ONCE],
            "scratch": [curve(0.0, 0.5, last=[1, 0])],  # of two starts only
        }
    )
    assert other["gain"] == {}


def test_the_regret_of_a_choice_among_specialists():
    zero_shot = {"jar": 0.25, "cork": 0.75}  # the one that was picked first
    found = gains.measured(
        {
            "zero_shot": [ONCE],
            "specialist-1": [curve(0.25, 0.5, last=[1, 1, 0, 0]) | {"specialists": zero_shot}],
            "specialist-2": [curve(0.75, 0.75, last=[1, 1, 1, 0])],
        }
    )["specialists"]
    assert found == {
        "picked": "jar",
        "zero_shot": zero_shot,
        "regret": 0.5,
        "final_regret": 0.25,
    }
    assert gains.choice_in_words(found) == (
        "jar was picked: 0.25 zero-shot; the best, cork, 0.75; regret at the end 0.25"
    )


def whole(*outcomes, steps=None, seconds=None, **further):
    """A curve that says what became of every episode."""
    success = [sum(point) / len(point) for point in outcomes]
    found = curve(*success) | {"outcomes": [list(point) for point in outcomes]}
    del found["last"]
    times = {"steps": steps, "seconds": seconds}
    return found | {key: value for key, value in times.items() if value} | further


def zero_shot(*outcomes, **further):
    return [whole(outcomes, **further)]


HALF = [0, 1] * 50  # of a hundred starts
ALL, NONE = [1] * 100, [0] * 100
OTHERS = wilson(0, 100)[1]  # a share of starts of which none of the hundred may be


def test_an_area_has_the_interval_of_its_starts():
    """Each start succeeds always or never: the area is a rate, 1.96 sqrt(0.25 / 100) = 0.098."""
    found = gains.measured({"zero_shot": zero_shot(0), "fine_tune": [whole(HALF, HALF, HALF)]})
    low, high = found["area_interval"]["fine_tune"]
    assert found["area"]["fine_tune"] == 0.5
    assert (0.5 - low, high - 0.5) == pytest.approx((0.098, 0.098), abs=0.011)
    assert found["n"]["fine_tune"] == {"seeds": 1, "starts": 100, "earlier": 100}


def test_points_that_are_measured_from_other_starts_vary_by_themselves():
    """The second start's luck does not move the first point, which it was not measured from."""
    found = gains.measured({"zero_shot": zero_shot(0), "fine_tune": [whole([1], [1, 0, 1, 0])]})
    low, high = found["area_interval"]["fine_tune"]
    assert low == pytest.approx((1 + 1 / 4) / 2)  # start 0 is the only one of its kind
    assert high == 1.0
    assert found["n"]["fine_tune"] == {"seeds": 1, "starts": 4, "earlier": 1}


def test_differences_are_paired_by_starts():
    ours, theirs = whole(HALF, ALL, ALL), whole(NONE, HALF, HALF)
    turned = whole(NONE, HALF[::-1], HALF[::-1])  # the others of the starts
    same = gains.measured({"zero_shot": zero_shot(0), "fine_tune": [theirs], "scratch": [theirs]})
    assert same["gap"]["fine_tune"] == same["gain"]["fine_tune"] == [0, -OTHERS, OTHERS]
    apart = gains.measured({"zero_shot": zero_shot(0), "fine_tune": [turned], "scratch": [theirs]})
    value, low, high = apart["gain"]["fine_tune"]
    # differences of -1 and 1: 1.96 sqrt(1 / 100); if they were not paired, 1.96 sqrt(0.5 / 100)
    assert value == 0
    assert (-low, high) == pytest.approx((0.196, 0.196), abs=0.021)
    found = gains.measured({"zero_shot": zero_shot(0), "fine_tune": [ours], "scratch": [theirs]})
    # trapezoids: (0.5 + 1) / 4 + (1 + 1) / 4 = 0.875, less 0.5 / 4 + (0.5 + 0.5) / 4 = 0.375
    assert found["gap"]["fine_tune"][0] == pytest.approx(0.5)
    assert found["jumpstarts"]["fine_tune"][0] == 0.5
    assert found["jumpstarts"]["fine_tune"][1] < 0.5 < found["jumpstarts"]["fine_tune"][2]


def test_areas_are_compared_over_the_same_budget():
    zero = zero_shot(*HALF)
    long = whole(NONE, ALL, ALL, steps=[0, 2000, 8000])  # of which the budget is a quarter
    learned = whole(NONE, NONE, NONE)  # 2,000 steps
    found = gains.measured({"zero_shot": zero, "fine_tune": [learned], "scratch_total": [long]})
    assert found["best_control"] == "scratch_total"
    ends = [-0.5 - OTHERS * 0.5, -0.5 + OTHERS * 1.5]
    assert found["gap"]["fine_tune"] == pytest.approx([-0.5, *ends])
    assert found["gap"]["zero_shot"][0] == pytest.approx(0)  # one half, all the time
    assert found["area"]["scratch_total"] == pytest.approx(0.875)  # of all its steps
    alone = gains.measured({"zero_shot": zero, "shuffled": zero_shot(*NONE)})
    assert alone["gap"] == {}  # nothing learns
    assert alone["gain"]["zero_shot"][0] == 0.5


def test_attempts_begin_elsewhere_and_are_not_paired():
    tried, control = whole(HALF, HALF), whole(HALF, HALF)
    curves = {"zero_shot": zero_shot(*HALF), "scratch": [control]}
    found = gains.measured(curves | {"attempts-1": zero_shot(*HALF), "attempts-2": [tried]})
    assert found["gain"]["attempts-1"] == [0, -OTHERS, OTHERS]
    value, low, high = found["gain"]["attempts-2"]
    # of two independent rates of one half: 1.96 sqrt(2 x 0.25 / 100) = 0.139
    assert value == 0
    assert (-low, high) == pytest.approx((0.139, 0.139), abs=0.016)
    fewer = gains.measured(curves | {"attempts-2": [whole([0, 1], [0, 1])]})
    assert fewer["gain"]["attempts-2"][0] == 0  # they need not be as many


def test_a_method_is_compared_with_what_has_the_same_episodes_from_nothing():
    """Not with the best control alone, which may have other episodes, or a source's weights."""
    most, few = [1] * 80 + [0] * 20, [1] * 20 + [0] * 80
    curves = {
        "zero_shot": zero_shot(*HALF),
        "demos-1": zero_shot(*HALF),
        "demos-5": zero_shot(*ALL),
        "reptile-25": zero_shot(*ALL),
        "demos_then_rl-1": [whole(HALF, most)],
        "shuffled": zero_shot(*ALL),
        "scratch": [whole(NONE, ALL)],
        "demos_from_nothing-1": zero_shot(*few),
        "demos_from_nothing-5": zero_shot(*most),
        "demos_then_rl_from_nothing-5": [whole(HALF, few)],
    }
    found = gains.measured(curves)
    same = found["same_demos"]
    assert {arm: of_arm["control"] for arm, of_arm in same.items()} == {
        "demos-1": "demos_from_nothing-1",
        "demos_then_rl-1": "demos_from_nothing-1",
        "demos-5": "demos_from_nothing-5",  # the better one; nothing has 25 episodes from nothing
    }
    value, low, high = same["demos-5"]["gain"]
    assert value == pytest.approx(0.2)  # a fifth of the pairs: 1.96 sqrt(0.2 x 0.8 / 100) = 0.078
    assert (value - low, high - value) == pytest.approx((0.078, 0.078), abs=0.011)
    # trapezoid: (0.5 + 0.8) / 2 less 0.2, which takes no steps
    assert same["demos_then_rl-1"]["gap"][0] == pytest.approx(0.45)
    line = gains.arm_numbers(found, "demos-5")
    assert "with the same episodes on demos_from_nothing-5 +0.20 [" in line
    assert "same episodes" not in gains.arm_numbers(found, "zero_shot")
    assert found["best_control"] in ("shuffled", "scratch")


def test_a_median_time_has_an_interval_that_may_end_at_never():
    """Of three seeds, of which one does not arrive, 7 of 27 draws have two or more of that one."""
    early, late, never = whole(NONE, ALL, ALL), whole(NONE, NONE, ALL), whole(NONE, NONE, NONE)
    of_two = gains.measured({"zero_shot": zero_shot(0), "fine_tune": [early, early, never]})
    times = of_two["reached"]["fine_tune"]["0.8"]
    assert times["median_steps"] == 1000
    assert times["interval_steps"] == [1000, None]
    assert times["interval_seconds"] == [1, None]
    of_three = gains.measured({"zero_shot": zero_shot(0), "fine_tune": [early, early, late]})
    assert of_three["reached"]["fine_tune"]["0.8"]["interval_steps"] == [1000, 2000]
    nobody = gains.measured({"zero_shot": zero_shot(0), "fine_tune": [never]})
    assert nobody["reached"]["fine_tune"]["0.8"]["interval_steps"] == [None, None]
    assert gains.arm_cells(of_two, "fine_tune")["0.8"] == (
        "for good after 1,000 [1,000, never] steps, 1 [1, never] s"
    )
    assert gains.arm_cells(nobody, "fine_tune")["0.8"] == "never"


def test_a_time_is_as_sure_as_the_starts_it_was_read_from():
    """At 79 of 100 starts the second point is below 0.8 in about as many draws as above."""
    nearly = [1] * 79 + [0] * 21
    found = gains.measured({"zero_shot": zero_shot(0), "fine_tune": [whole(NONE, nearly, ALL)]})
    times = found["reached"]["fine_tune"]["0.8"]
    assert times["median_steps"] == 2000
    assert times["interval_steps"] == [1000, 2000]


def test_what_the_sources_lost_is_paired_by_their_episodes():
    before, after = [1, 1, 1, 0] * 25, [1, 1, 0, 0] * 25
    found = gains.measured(
        {
            "zero_shot": zero_shot(0, sources=0.75, source_outcomes=before),
            "fine_tune": [whole([0], [1], sources=0.5, source_outcomes=after)],
            "head_only": [whole([0], [1], sources=0.75, source_outcomes=before)],
            "scratch": [whole([0], [1], sources=None)],
        }
    )
    value, low, high = found["lost"]["fine_tune"]
    assert value == 0.25  # a quarter of the pairs: 1.96 sqrt(0.25 x 0.75 / 100) = 0.085
    assert (value - low, high - value) == pytest.approx((0.085, 0.085), abs=0.011)
    assert found["lost"]["head_only"] == [0, -OTHERS, OTHERS]
    assert set(found["lost"]) == {"fine_tune", "head_only"}
    assert found["n"]["fine_tune"]["sources"] == 100
    assert "0.50 of 100 episodes on the source's rows, lost 0.25 [" in gains.arm_numbers(
        found, "fine_tune"
    )


def test_older_curves_have_outcomes_of_the_last_point_only():
    old = curve(0.0, 0.5, 1.0, last=[1, 1, 1, 1])
    found = gains.measured(
        {
            "zero_shot": [ONCE],
            "fine_tune": [old],
            "scratch": [curve(0.0, 0.0, 0.5, last=[0, 0, 1, 1])],
        }
    )
    assert found["interval"]["fine_tune"] == pytest.approx(wilson(4, 4))
    assert found["gain"]["fine_tune"][0] == 0.5
    assert set(found["gain"]) == {"zero_shot", "fine_tune"}
    assert found["area"]["fine_tune"] == 0.5
    assert found["area_interval"] == found["gap"] == found["lost"] == {}
    assert "interval_steps" not in found["reached"]["fine_tune"]["0.5"]
    assert found["n"]["fine_tune"] == {"seeds": 1, "starts": 4}
    added = gains.measured({"zero_shot": [ONCE], "fine_tune": [old, whole([0], [1], [1] * 4)]})
    assert added["area_interval"] == {}  # a seed of whose points they are not known
    oldest = gains.measured({"zero_shot": [{"steps": [0], "success": [0.5]}]})
    assert oldest["interval"] == {}
    assert oldest["final"] == {"zero_shot": 0.5}


def test_outcomes_of_older_curves_and_states():
    assert gains.outcomes_of({"success": [0.0, 1.0], "last": [1, 1]}) == [[], [1, 1]]
    assert gains.outcomes_of({"success": [0.0, 1.0]}) == [[], []]
    assert gains.outcomes_of({"success": [], "last": []}) == []  # before the first point


def test_the_same_curves_have_the_same_intervals():
    curves = {
        "zero_shot": zero_shot(*HALF),
        "fine_tune": [whole(HALF, ALL)],
        "scratch": [whole(NONE, HALF)],
    }
    assert gains.measured(curves) == gains.measured(curves)


def test_an_arm_is_one_line():
    times = {"steps": [None, None], "median_steps": None}
    entry = {"final": {"scratch": 0.25}, "reached": {"scratch": {"0.5": times}}}
    assert gains.arm_numbers(entry, "scratch") == "0.25; 0.5 never"
    times |= {"steps": [1500.0, None], "median_steps": 1500.0, "interval_steps": [1500.0, None]}
    times |= {"seconds": [0.25, None], "median_seconds": 0.25, "interval_seconds": [0.25, None]}
    entry |= {
        "interval": {"scratch": [0.125, 0.375]},
        "best_control": "noise",
        "gain": {"scratch": [0.25, -0.125, 0.5]},
        "gap": {"scratch": [0.5, 0.25, 0.75]},
        "n": {"scratch": {"seeds": 2, "starts": 200, "earlier": 50}},
    }
    assert gains.arm_numbers(entry, "scratch") == (
        "0.25 [0.12, 0.38]; 0.5 for good after 1,500 [1,500, never] steps, 0.2 [0.2, never] s; "
        "on noise +0.25 [-0.12, 0.50] at the end, +0.50 [0.25, 0.75] over the curve; "
        "n 2 x 200 (50 before the end)"
    )


def test_where_every_start_succeeds_final_success_has_wilsons_interval():
    """However many seeds there are: those of zero-shot are the same episodes again."""
    for seeds in (1, 3):
        found = gains.measured(
            {"zero_shot": zero_shot(*[1] * 200) * seeds, "scratch": [whole(NONE, ALL)] * seeds}
        )
        assert found["interval"]["zero_shot"] == pytest.approx(wilson(200, 200))
        low, high = found["zero_shot_low"], found["zero_shot_high"]
        assert found["interval"]["zero_shot"] == pytest.approx((low, high))
        assert found["interval"]["scratch"] == pytest.approx(wilson(100, 100))
        assert found["n"]["zero_shot"] == {"seeds": 1, "starts": 200}
        assert found["n"]["scratch"]["seeds"] == seeds


def test_a_repeat_of_the_same_episodes_is_no_further_seed():
    assert [name for name, arm in ARMS.items() if not arm.draws] == [
        "zero_shot",
        "nearest_task",
        "attempts",
    ]


def test_no_difference_is_certain_where_all_starts_agree():
    """All open against none: as sure as a hundred starts make it, and so is the curve."""
    curves = {
        "zero_shot": zero_shot(*NONE),
        "fine_tune": [whole(ALL, ALL)],
        "scratch": [whole(NONE, NONE)],
    }
    found = gains.measured(curves)
    for name in ("gain", "gap", "jumpstarts"):
        assert found[name]["fine_tune"] == pytest.approx([1, 1 - 2 * OTHERS, 1])
        assert found[name]["zero_shot"] == pytest.approx([0, -OTHERS, OTHERS])
    assert found["area_interval"]["fine_tune"] == pytest.approx([1 - OTHERS, 1])
    curves["fine_tune"] = [whole([1, 1], ALL)]  # the first point is of two starts only
    curves["scratch"] = [whole([0, 0], NONE)]
    found = gains.measured(curves)
    assert found["gain"]["fine_tune"] == pytest.approx([1, 1 - 2 * OTHERS, 1])
    assert found["gap"]["fine_tune"] == pytest.approx([1, 1 - 2 * wilson(0, 2)[1], 1])
