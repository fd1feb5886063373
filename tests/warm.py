"""What the fork server of `kills.py` does once: import and compile what every command needs."""

import torch

import agents.plain
import agents.ppo
import agents.sac
import evaluation.commands
import evaluation.report
from envs import ClosureVectorEnv
from envs.experts import expert_action
from envs.observations import observe

LOADED = (agents.plain, agents.ppo, agents.sac, evaluation.commands, evaluation.report, observe)

env = ClosureVectorEnv("reach", 1, threads=1, seed=0)  # one thread: forks cannot have more
env.reset()
env.step(expert_action(env.batch.measure()))
env.close()
torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # imports much at its first use
