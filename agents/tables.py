"""What a policy can be made of and how it can learn: a row each, imported when it is used.

Adding one is a class or function in the module that its row names, and the row. It is then a
choice on the command line, in grids and in the help.
"""

from __future__ import annotations

from uncap.envs.tables import Row, Table

BODIES = Table(
    "body",
    {
        "mlp": Row(".bodies:MLP", "state and task side by side through two layers"),
        "film": Row(".bodies:FiLM", "the task scales and shifts every hidden unit"),
        "attention": Row(".bodies:StageAttention", "film, by the stages that the state attends to"),
        "soft_modules": Row(".bodies:SoftModules", "soft routing between layers of modules"),
        "moore": Row(".bodies:Moore", "mixture of orthogonal experts"),
        "paco": Row(".bodies:PaCo", "weights composed of parameter sets that tasks share"),
        "transformer": Row(".bodies:Transformer", "attention over the observation's parts"),
    },
    __package__,
)

HEADS = Table(
    "head",
    {
        "shared": Row(".networks:SharedHead", "one linear output for all tasks"),
        "per_task": Row(".networks:PerTaskHead", "a linear output for every task"),
    },
    __package__,
)

MEMORIES = Table(  # by the names of the conditionings that have one
    "memory",
    {
        "belief": Row(".memory:RowBelief", "names the row"),
        "belief_parts": Row(".memory:PartBelief", "names the stages and numbers"),
        "belief_search": Row(".memory:SearchBelief", "names what the search takes it for"),
        "recurrent": Row(".memory:Code", "names nothing"),
    },
    __package__,
)

RULES = Table(
    "gradient rule",
    {
        "sum": Row(".gradients:plain_sum", "their mean: ordinary backpropagation"),
        "pcgrad": Row(".gradients:pcgrad", "project each off those it conflicts with"),
        "gradvac": Row(".gradients:gradvac", "turn each towards the cosines seen so far"),
        "graddrop": Row(".gradients:graddrop", "keep one sign per parameter, at random"),
        "cagrad": Row(".gradients:cagrad", "best for the worst-off task near the mean"),
        "mgda": Row(".gradients:mgda", "the shortest convex combination"),
        "imtl_g": Row(".gradients:imtl_g", "equal projections on every task's direction"),
        "nash_mtl": Row(".gradients:nash_mtl", "Nash's bargaining solution"),
        "fairgrad": Row(".gradients:fairgrad", "alpha-fair shares of the step"),
        "aligned_mtl": Row(".gradients:aligned_mtl", "made orthogonal and equally long"),
        "config": Row(".gradients:config", "equal cosines with every task"),
        "dualproj": Row(".gradients:dualproj", "the mean, projected on the dual cone"),
        "upgrad": Row(".gradients:upgrad", "each projected on the dual cone, then the mean"),
        "random": Row(".gradients:random", "random weights: the control"),
    },
    __package__,
)

SAMPLINGS = Table(
    "sampling",
    {
        "uniform": Row(".balance:uniform", "every task as often"),
        "by_failure": Row(".balance:by_failure", "more of what is not yet solved"),
        "zipf": Row(".balance:zipf", "a long tail: the k-th task 1/k as often"),
    },
    __package__,
)

ALGORITHMS = Table(
    "algorithm",
    {
        "ppo": Row(".ppo:PPO", "multi-task PPO"),
        "sac": Row(".sac:SAC", "multi-task SAC with demonstrations in the replay; not tuned"),
        "plain_ppo": Row(".plain:PlainPPO", "stable-baselines3's PPO as it comes: a control"),
        "recurrent_ppo": Row(
            ".recurrent:RecurrentPPOAlgorithm", "sb3-contrib's, over whole trials: a control"
        ),
    },
    __package__,
)

WARM_STARTS = Table(
    "warm start",
    {
        "dagger": Row(".warm_starts:dagger", "imitate the scripted experts first"),
        "clone": Row(".warm_starts:clone", "imitate the recorded demonstrations first"),
        "none": Row(".warm_starts:none", "reinforcement learning from scratch"),
    },
    __package__,
)
