"""What a policy can be made of and how it can learn: a row each, imported when it is used.

Adding one is a class or function in the module that its row names, and the row. It is then a
choice on the command line, in grids and in the help.
"""

from __future__ import annotations

from envs.tables import Row, Table

BODIES = Table(
    "body",
    {
        "mlp": Row("agents.bodies:MLP", "state and task side by side through two layers"),
        "film": Row("agents.bodies:FiLM", "the task scales and shifts every hidden unit"),
        "soft_modules": Row("agents.bodies:SoftModules", "soft routing between layers of modules"),
        "moore": Row("agents.bodies:Moore", "mixture of orthogonal experts"),
        "paco": Row("agents.bodies:PaCo", "weights composed of parameter sets that tasks share"),
        "transformer": Row("agents.bodies:Transformer", "attention over the observation's parts"),
    },
)

HEADS = Table(
    "head",
    {
        "shared": Row("agents.networks:SharedHead", "one linear output for all tasks"),
        "per_task": Row("agents.networks:PerTaskHead", "a linear output for every task"),
    },
)

RULES = Table(
    "gradient rule",
    {
        "sum": Row("agents.gradients:plain_sum", "their mean: ordinary backpropagation"),
        "pcgrad": Row("agents.gradients:pcgrad", "project each off those it conflicts with"),
        "gradvac": Row("agents.gradients:gradvac", "turn each towards the cosines seen so far"),
        "graddrop": Row("agents.gradients:graddrop", "keep one sign per parameter, at random"),
        "cagrad": Row("agents.gradients:cagrad", "best for the worst-off task near the mean"),
        "mgda": Row("agents.gradients:mgda", "the shortest convex combination"),
        "imtl_g": Row("agents.gradients:imtl_g", "equal projections on every task's direction"),
        "nash_mtl": Row("agents.gradients:nash_mtl", "Nash's bargaining solution"),
        "fairgrad": Row("agents.gradients:fairgrad", "alpha-fair shares of the step"),
        "aligned_mtl": Row("agents.gradients:aligned_mtl", "made orthogonal and equally long"),
        "config": Row("agents.gradients:config", "equal cosines with every task"),
        "dualproj": Row("agents.gradients:dualproj", "the mean, projected on the dual cone"),
        "upgrad": Row("agents.gradients:upgrad", "each projected on the dual cone, then the mean"),
        "random": Row("agents.gradients:random", "random weights: the control"),
    },
)

SAMPLINGS = Table(
    "sampling",
    {
        "uniform": Row("agents.balance:uniform", "every task as often"),
        "by_failure": Row("agents.balance:by_failure", "more of what is not yet solved"),
        "zipf": Row("agents.balance:zipf", "a long tail: the k-th task 1/k as often"),
    },
)

ALGORITHMS = Table(
    "algorithm",
    {
        "ppo": Row("agents.ppo:PPO", "multi-task PPO"),
        "sac": Row("agents.sac:SAC", "multi-task SAC with demonstrations in the replay; not tuned"),
        "plain_ppo": Row("agents.plain:PlainPPO", "stable-baselines3's PPO as it comes: a control"),
    },
)

WARM_STARTS = Table(
    "warm start",
    {
        "dagger": Row("agents.warm_starts:dagger", "imitate the scripted experts first"),
        "clone": Row("agents.warm_starts:clone", "imitate the recorded demonstrations first"),
        "none": Row("agents.warm_starts:none", "reinforcement learning from scratch"),
    },
)
