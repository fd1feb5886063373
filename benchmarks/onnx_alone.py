"""An exported policy opens closures with onnxruntime and the environment alone, without torch.

    python train.py export RUN --out policy.onnx
    python benchmarks/onnx_alone.py policy.onnx --episodes 50

Everything about the policy is read from the file. Starts are those of `train.py evaluate`, whose
success it comes to; with a memory, of the first attempts. Prints success per task, and the
milliseconds that one action takes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
import onnxruntime

from uncap.envs import ClosureVectorEnv
from uncap.envs.pool import VARIANT_STREAMS

SEED = 7_000_000  # `protocol.EVALUATION_SEED`
TIMED = 2000  # actions


def main() -> None:
    """Run the episodes of every task, one task after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=RAW)
    parser.add_argument("file")
    parser.add_argument("--episodes", type=int, default=50)
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(arguments.file, options, ["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["uncap"])
    inputs = {part.name for part in session.get_inputs()}
    for index, task in enumerate(about["tasks"]):
        vector = np.array(about["vectors"][task], np.float32)
        solved = episodes(session, inputs, about, task, vector, index, arguments.episodes)
        print(f"{task:12} {solved / arguments.episodes:.2f}  n={arguments.episodes}", flush=True)
    size = sum(part["size"] for part in about["state"]) * about["states"]
    memory = about.get("memory", 0)
    one = {"state": (1, size), "task": (1, about["task_size"]), "index": (1, 1)}
    one |= {"memory": (1, memory), "begins": (1, 1), "reward": (1, 1)}
    read = {name: np.zeros(shape, np.float32) for name, shape in one.items() if name in inputs}
    began = time.perf_counter()
    for _ in range(TIMED):
        session.run(None, read)
    print(f"one action: {(time.perf_counter() - began) / TIMED * 1e3:.4f} ms")
    assert not {"torch", "agents", "evaluation"} & set(sys.modules)


def episodes(session, inputs, about, task, vector, index, n) -> int:
    """How many of n episodes of a task succeed."""
    env = ClosureVectorEnv(
        task,
        n,
        conditioning="none",
        history=about["states"],
        autoreset_mode="Disabled",
        variant_seed=VARIANT_STREAMS["evaluation"],
        sensors=about["sensors"],
    )
    observation, info = env.reset(seed=[SEED + k for k in range(n)])
    memory = np.zeros((n, about.get("memory", 0)), np.float32)
    for _ in range(int(env.max_steps[0])):
        # what is told changes with the stage where there is a vector for each
        stage = env.batch.present_stage()
        read = {
            "state": observation["state"],
            "task": vector[stage] if vector.ndim > 1 else np.tile(vector, (n, 1)),
            "index": np.full((n, 1), index, np.float32),
            "memory": memory,
            "begins": (env.steps == 0)[:, None].astype(np.float32),
            "reward": env.last_reward[:, None].astype(np.float32),
        }
        action, *kept = session.run(None, {name: read[name] for name in inputs})
        memory = kept[0] if kept else memory
        observation, _, _, _, info = env.step(action)
    env.close()
    return int(info["success"].sum())


RAW = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
