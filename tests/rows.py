"""A row that is in no table."""

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
