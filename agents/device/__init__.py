"""Learning from thousands of environments on an accelerator: states, rollouts, updates stay there.

A policy of an ordinary `Learner` is moved to the device (`moved`), learns there in `Worlds` by
`DeviceDagger` or `DevicePPO`, and comes back; the learner then saves it as it saves any other.

On the CPU the same seed gives the same numbers. On a GPU the physics does not, see
docs/environment.md.
"""
