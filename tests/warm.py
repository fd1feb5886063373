"""What the fork server of `kills.py` does once: import and compile what every command needs."""

import torch
from matplotlib.figure import Figure

import uncap.agents.plain
import uncap.agents.ppo
import uncap.agents.sac
import uncap.evaluation.commands
import uncap.evaluation.report
import uncap.evaluation.transfer
from uncap.envs import ClosureVectorEnv
from uncap.envs.experts import expert_action
from uncap.envs.observations import observe
from uncap.evaluation.pages import picture

LOADED = (
    *(uncap.agents.plain, uncap.agents.ppo, uncap.agents.sac, observe),
    *(uncap.evaluation.commands, uncap.evaluation.report, uncap.evaluation.transfer),
)

ROWS = ("puck", "button", "block", "reach", "bottle", "mug", "jar")  # of the jobs
# one thread: forks cannot have more
env = ClosureVectorEnv(ROWS, len(ROWS), threads=1, seed=0, autoreset_mode="SameStep")
env.reset()
env.step(expert_action(env.batch.measure()))
env.close()
figure = Figure()
figure.subplots().set_title("fonts are found")
picture(figure)
torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # imports much at its first use
