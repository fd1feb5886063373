"""The control step on torch tensors of fixed shapes: where the physics runs on an accelerator.

`DeviceStep` (`step.py`) is what a batch does around its physics: controls, what holds the lids,
measurements, rewards, observations and the expert. Nothing in it depends on values that the host
would have to read, so that one CUDA graph can hold all of it, the physics included.

Only this folder of the environments imports torch, and no other module of theirs imports it.
"""
