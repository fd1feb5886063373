"""Policies as ONNX files: one file that acts, and says what it reads, without Uncap or torch.

The file's inputs are `state` (n, s), and, where the policy depends on them, `task` (n, t) and
`index` (n, 1), all float32; its output is `action` (n, 5) in [-1, 1]. A policy with a memory has
the inputs `memory` (n, m), zeros where a trial begins, `begins` (n, 1), 1 where an attempt begins,
and `reward` (n, 1) where it reads that; and a second output, `kept`: the memory of the next call.
The metadata are two texts:
`uncap`, JSON that says what state, task and action are made of, and `sha256`, the digest of the
file with 64 zeros in place of the digest. Files are checked before onnxruntime gets them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import pathlib
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from uncap.agents.files import FileError, replacing
from uncap.agents.policy import Arrays, LoadedPolicy, Reads, reads, recalled
from uncap.envs.conditioning import CONDITIONINGS
from uncap.envs.mechanisms import MOST_STAGES
from uncap.envs.observations import LIMIT, layout
from uncap.envs.panda import ACTIONS
from uncap.envs.tables import lookup

FORMAT = 1  # of the metadata
OPSET = 17  # of ONNX: onnxruntime 1.13 and later read it
TOLERANCE = 1e-5  # of an action, between torch and the file
_CHECKED = 64  # observations that are compared
_UNSEALED = "0" * 64  # stands for the digest while it is computed
_SEAL = re.compile(rb"\n\x06sha256\x12@([0-9a-f]{64})")  # key and value, as protobuf lays them out


def check_installed() -> None:
    """Refuse if the packages are missing that write and read ONNX.

    Raises:
        ValueError: they are.
    """
    try:
        import onnx  # noqa: F401  # pyright: ignore[reportMissingImports]
        import onnxruntime  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError("exported policies need ONNX: pip install 'uncap[onnx]'") from None


class _Network(torch.nn.Module):
    """A policy's deterministic action, as a function of arrays in a fixed order."""

    def __init__(self, policy: Any, names: tuple[str, ...]):
        super().__init__()
        self.policy = policy
        self.names = names

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map the inputs (n, ...) to actions (n, a), and what a memory keeps, (n, m)."""
        inputs = dict(zip(self.names, values, strict=True))
        state = inputs["state"]
        if "memory" in inputs:
            inputs, hidden = recalled(self.policy.memory, inputs)
            action = self.policy.act(inputs).clamp(-1, 1)
            return action, torch.cat([hidden, action], 1)
        inputs.setdefault("index", state.new_zeros(state.shape[0], 1))
        return (self.policy.act(inputs).clamp(-1, 1),)


def export(
    policy: Any, meta: Mapping[str, Any], path: pathlib.Path, about: Mapping[str, Any]
) -> float:
    """Write a policy as an ONNX file, whole or not at all.

    Args:
        policy: trained.
        meta: its checkpoint's JSON part, see `policy.load_policy`.
        path: file to write.
        about: goes into the metadata.

    Returns:
        The largest difference between actions of torch and of the file, over random observations.

    Raises:
        ValueError: the packages are missing; the policy sees pictures; the network cannot be
            written; or the difference is 1e-5 or more.
    """
    check_installed()
    read_by = reads(policy, meta)
    if read_by.pictures:
        raise ValueError("a policy that sees pictures is not exported: uncap.load takes its run")
    names = ("state", *(name for name in _sizes(read_by) if name != "state"))
    network = _Network(policy, names)
    examples = _examples(read_by, names)
    content = _sealed(_traced(network, examples), {**described(read_by), **about})
    with torch.inference_mode():
        expected = network(*map(torch.as_tensor, examples.values()))
    found = open_session(content, path).run(None, examples)
    difference = max(
        float(np.abs(ours - torchs.numpy()).max())
        for ours, torchs in zip(found, expected, strict=True)
    )
    if not difference < TOLERANCE:
        raise ValueError(
            f"the actions of the file differ from torch's by {difference:.1e}: it is not written "
            f"(allowed: below {TOLERANCE:.0e})"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return difference


def _examples(read_by: Reads, names: tuple[str, ...]) -> Arrays:
    """Random inputs: states (n, s), vectors of the tasks (n, t), indices (n, 1) and so on."""
    rng = np.random.default_rng(0)
    size = read_by.state_size * read_by.states
    index = rng.integers(len(read_by.tasks), size=_CHECKED)
    states = np.clip(rng.normal(size=(_CHECKED, size)), -LIMIT, LIMIT)
    known = np.stack([read_by.vectors[name] for name in read_by.tasks])
    if known.ndim > 2:  # one for each stage: of the first
        known = known[:, 0]  # (tasks, t)
    every = {
        "state": states,
        "task": known[index],
        "index": index[:, None],
        "memory": np.clip(rng.normal(size=(_CHECKED, read_by.memory)), -1.0, 1.0),
        "begins": rng.integers(2, size=(_CHECKED, 1)),
        "reward": rng.normal(size=(_CHECKED, 1)),
    }
    return {name: every[name].astype(np.float32) for name in names}


def _traced(network: _Network, examples: Arrays) -> bytes:
    """The network as ONNX, for any number of observations.

    torch's older exporter is used: it needs no further package and takes a tenth of a second.
    """
    buffer, said = io.BytesIO(), io.StringIO()
    outputs = ["action", "kept"] if "memory" in examples else ["action"]
    names = [*examples, *outputs]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said):
            warnings.simplefilter("ignore")  # that it is the older one
            torch.onnx.export(
                network,
                tuple(map(torch.as_tensor, examples.values())),
                buffer,  # pyright: ignore[reportArgumentType] - a file-like object is taken
                input_names=list(examples),
                output_names=outputs,
                dynamic_axes={name: {0: "n"} for name in names},
                opset_version=OPSET,
                dynamo=False,
            )
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"this network cannot be written as ONNX: {reason[:300]}") from None
    return buffer.getvalue()


def _sealed(model: bytes, about: Mapping[str, Any]) -> bytes:
    """A model with its metadata and its digest."""
    import onnx  # pyright: ignore[reportMissingImports]

    proto = onnx.load_model_from_string(model)
    for key, text in (("uncap", json.dumps(about)), ("sha256", _UNSEALED)):
        proto.metadata_props.add(key=key, value=text)
    onnx.checker.check_model(proto)
    unsealed = proto.SerializeToString(deterministic=True)
    digest = hashlib.sha256(unsealed).hexdigest()
    [found] = _SEAL.finditer(unsealed)
    return unsealed[: found.start(1)] + digest.encode() + unsealed[found.end(1) :]


def described(read_by: Reads) -> dict[str, Any]:
    """What a policy reads and gives, for the metadata."""
    parts = layout(read_by.sensors).parts
    return {
        "format": FORMAT,
        "sensors": read_by.sensors,
        "states": read_by.states,
        "state": [
            {"name": part.name, "size": part.size, "factor": part.factor, "words": part.words}
            for part in parts
        ],
        "state_limit": LIMIT,
        "action": [row._asdict() for row in ACTIONS],
        "conditioning": read_by.conditioning,
        "tasks": read_by.tasks,
        "known": read_by.known,
        "task_size": read_by.task_size,
        "index": read_by.index,
        "memory": read_by.memory,
        "reward": read_by.reward,
        "episode_steps": read_by.episode_steps,
        "attempts": read_by.attempts,
        "vectors": {name: vector.tolist() for name, vector in read_by.vectors.items()},
    }


def is_ours(path: pathlib.Path) -> bool:
    """Whether a file says that `export` wrote it, damaged or not."""
    return b"\n\x05uncap\x12" in path.read_bytes()


def read(path: pathlib.Path) -> LoadedPolicy:
    """A policy of a file that `export` wrote.

    Raises:
        FileError: it is damaged, no such file, or of another version.
        ValueError: onnxruntime is missing.
    """
    check_installed()
    content = path.read_bytes()
    found = _SEAL.search(content)
    if not found:
        raise FileError(f"{path} is damaged, or `export` has not written it: it has no digest")
    unsealed = content[: found.start(1)] + _UNSEALED.encode() + content[found.end(1) :]
    if hashlib.sha256(unsealed).hexdigest().encode() != found[1]:
        raise FileError(f"{path} is damaged: its content does not fit its digest; export it anew")
    session = open_session(content, path)
    read_by = _read_by(session, path)
    return LoadedPolicy(read_by, functools.partial(_acts, session, path))


def open_session(content: bytes, path: pathlib.Path) -> Any:
    """A session of onnxruntime on one thread, which gives the same bytes on any machine."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it says is raised, too
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it also raises
            return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's have no common base
        reason = " ".join(str(error).split())
        raise FileError(f"{path} is damaged, or no ONNX file: {reason[:200]}") from None


def _acts(
    session: Any, path: pathlib.Path, inputs: Arrays, deterministic: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    if not deterministic:
        raise ValueError("an exported policy has mean actions only: deterministic must be true")
    read = {part.name: inputs[part.name] for part in session.get_inputs()}
    try:
        actions, *kept = session.run(None, read)
    except Exception as error:  # onnxruntime's have no common base
        reason = " ".join(str(error).split())
        raise FileError(f"{path} is damaged: it cannot act: {reason[:200]}") from None
    return actions, kept[0] if kept else None


def _read_by(session: Any, path: pathlib.Path) -> Reads:
    """What a file's policy reads, from its metadata.

    Raises:
        FileError: they are not as `described`, or do not fit the network.
    """
    try:
        about = json.loads(session.get_modelmeta().custom_metadata_map["uncap"])
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']}, this version reads {FORMAT}")
        row = lookup(CONDITIONINGS, about["conditioning"], "conditioning")
        shape = (MOST_STAGES + 1, -1) if row.staged else (about["task_size"],)
        vectors = {
            name: np.asarray(vector, np.float32).reshape(shape)
            for name, vector in about["vectors"].items()
        }
        read_by = Reads(
            sensors=about["sensors"],
            states=int(about["states"]),
            conditioning=about["conditioning"],
            tasks=tuple(map(str, about["tasks"])),
            known=tuple(map(str, about["known"])),
            vectors=vectors,
            task_size=int(about["task_size"]),
            index=bool(about["index"]),
            memory=int(about.get("memory", 0)),
            reward=bool(about.get("reward", False)),
            episode_steps=about.get("episode_steps") and int(about["episode_steps"]),
            attempts=int(about.get("attempts", 1)),
        )
        _check_fits(read_by, about, session)
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        reason = " ".join(str(error).split())
        raise FileError(
            f"{path} was exported by another version, or is damaged: {reason[:200]}"
        ) from None
    return read_by


def _check_fits(read_by: Reads, about: Mapping[str, Any], session: Any) -> None:
    """Refuse a network or a state of other sizes than the metadata say.

    Raises:
        ValueError: they differ.
    """
    stored = [(part["name"], part["size"], part["factor"]) for part in about["state"]]
    now = [(part.name, part.size, part.factor) for part in layout(read_by.sensors).parts]
    if stored != now:
        raise ValueError(f"its state is laid out otherwise than the sensors {read_by.sensors} now")
    sizes = _sizes(read_by)
    found = {part.name: part.shape[-1] for part in session.get_inputs()}
    if found != sizes:
        raise ValueError(f"its inputs are {found}, not {sizes}")
    outputs = {part.name: part.shape[-1] for part in session.get_outputs()}
    if outputs.get("kept", 0) != read_by.memory:
        raise ValueError(f"its outputs are {outputs}, and it keeps {read_by.memory} numbers")


def _sizes(read_by: Reads) -> dict[str, int]:
    """Numbers of each input of a policy's file, by name."""
    sizes = {
        "state": read_by.state_size * read_by.states,
        "task": read_by.task_size,
        "index": int(read_by.index),
        "memory": read_by.memory,
        "begins": int(read_by.memory > 0),
        "reward": int(read_by.reward),
    }
    return {name: size for name, size in sizes.items() if size}
