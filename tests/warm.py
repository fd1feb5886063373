"""What the fork server of `kills.py` does once: import and compile what every command needs."""

import torch
from matplotlib.figure import Figure

import agents.plain
import agents.ppo
import agents.sac
import evaluation.commands
import evaluation.report
import evaluation.transfer
from envs import ClosureVectorEnv
from envs.experts import expert_action
from envs.observations import observe
from evaluation.pages import picture

LOADED = (
    *(agents.plain, agents.ppo, agents.sac, observe),
    *(evaluation.commands, evaluation.report, evaluation.transfer),
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
