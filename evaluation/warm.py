"""What a server of processes does once, before it forks: import and compile what works need."""

import torch

import uncap.evaluation.transfer
from uncap.envs import ClosureVectorEnv
from uncap.envs.experts import expert_action
from uncap.envs.observations import observe

LOADED = (uncap.evaluation.transfer, observe)

env = ClosureVectorEnv("reach", 1, threads=1, seed=0)  # one thread: forks cannot have more
env.reset()
env.step(expert_action(env.batch.measure()))
env.close()
torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))])  # imports much at its first use
