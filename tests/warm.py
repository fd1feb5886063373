"""What the fork server of `kills.py` does once: import and compile what every command needs."""

import agents.plain
import agents.ppo
import agents.sac
import evaluation.commands
import evaluation.report
import evaluation.warm

LOADED = (
    *(agents.plain, agents.ppo, agents.sac),
    *(evaluation.commands, evaluation.report, evaluation.warm),
)
