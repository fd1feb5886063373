"""Compiled variants that are kept: their numbers are those of MuJoCo's compiler, bit for bit."""

import mujoco.batch
import numpy as np
import pytest

from uncap.envs import CLOSURES, ClosureVectorEnv
from uncap.envs.models import MODELS, Models
from uncap.envs.scene import build

LABELS = ("eq_active0", "names_map", "geom_rgba")


@pytest.fixture(scope="module")
def pool():
    return [row.draw(np.random.default_rng(5)) for row in CLOSURES.values()]


@pytest.fixture(scope="module")
def compiled(pool):
    """Held and free, as MuJoCo compiles them."""
    held = [build(variant).compile() for variant in pool]
    return held + [build(variant, free=True).compile() for variant in pool]


def differs(name, models):
    values = [getattr(model, name, None) for model in models]
    if name in LABELS or not isinstance(values[0], np.ndarray):
        return False
    return len({np.asarray(value).tobytes() for value in values}) > 1


def test_held_and_free_models_are_what_the_compiler_makes(pool, compiled):
    found = Models().fields(pool, always=["geom_friction"])
    names = [name for name in sorted(mujoco.batch.MODEL_FIELDS) if differs(name, compiled)]
    assert list(found) == [*names, "geom_friction"]
    for name, values in found.items():
        expected = np.stack([getattr(model, name) for model in compiled])
        assert values.dtype == expected.dtype
        assert values.tobytes() == expected.tobytes(), name


def test_a_field_in_which_a_pool_agrees_is_not_among_its_fields(pool):
    models = Models()
    models.fields(pool)  # others differ in it
    own = models.fields(pool[:1])
    assert "geom_size" not in own
    assert "dof_frictionloss" in own  # held and free


def test_a_variant_is_compiled_once(pool):
    models = Models(most=3)
    models.fields(pool[:3])
    models.fields(pool[:3])
    assert models.compiled == 3
    models.fields(pool[1:4])  # the first one goes
    models.fields(pool[1:4])
    assert models.compiled == 4
    models.fields(pool[:1])
    assert models.compiled == 5


def test_further_environments_of_the_same_rows_compile_nothing():
    ClosureVectorEnv(("mug", "pump"), 2).close()
    before = MODELS.compiled
    ClosureVectorEnv(("pump", "mug"), 8).close()
    assert MODELS.compiled == before
