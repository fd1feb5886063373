"""Learning from thousands of environments on an accelerator: states, rollouts, updates stay there.

A policy of an ordinary `Learner` is moved to the device (`moved`), learns there in `Worlds` by
`DeviceDagger` or `DevicePPO`, and comes back; the learner then saves it as it saves any other.
"""
