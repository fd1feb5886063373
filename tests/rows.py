"""A row that is in no table."""

from uncap.envs.composed import row_name
from uncap.envs.grammar import KINDS, sequences

INK_BOTTLE = {
    "name": "ink-bottle",
    "description": "unscrew an ink bottle",
    "source": "made up",
    "mechanism": "screw",
    "grip": "cap",
    "look": "jar",
    "body": (0.030, 0.070),
    "neck": (0.015, 0.008),
    "grip_radius": (0.016, 0.018),
    "grip_height": (0.018, 0.022),
    "angle": (1.6, 2),  # a whole number, as users write them
    "lead": (0.006, 0.008),
    "torque": (0.2, 0.3),
}

# A composed closure of each kind of stage, and of a sample of all sequences of three
OF_EACH_KIND = tuple(row_name((kind,), 0) for kind in KINDS)
COMPOSED = (*OF_EACH_KIND, *(row_name(s, 0) for s in sequences(3)[::30]))
