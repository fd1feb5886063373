"""Measures of transfers, on curves that are written down."""

import pytest

from uncap.evaluation import gains

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


def test_what_is_never_reached_is_said_so():
    entry = {"final": {"scratch": 0.25}, "reached": {"scratch": {"0.5": {"steps": [None, None]}}}}
    assert gains.arm_numbers(entry, "scratch") == "0.25, 0.5 never"
    entry["reached"]["scratch"]["0.5"]["steps"] = [1500.0, None]
    assert gains.arm_numbers(entry, "scratch") == "0.25, 0.5 for good after 1,500, never steps"
