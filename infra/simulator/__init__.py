"""Discrete-event simulation of the planner's own model: many sites, no inference, the same answer for the same seed.

A site answers its own shards first; others' shards come over its link meanwhile, the stages overlapped as in the
engine, and links are shared evenly. Shards are counts, so time and memory grow with sites and events, not with shards.
What the plan knew may be wrong: sites are slower or faster than measured, die, come back, or join. What a dead site has
answered is in the ledger and stays; what it had begun is lost.

A policy is asked when a site dies, comes back or joins, and at fixed intervals. It moves shards that have not been
answered and may move: `replan` solves the programme again for them, with the rates seen so far; `stay` does nothing.
Near the end an idle site may take shards from the back of the slowest one's queue.

`events` plays, `policies` decides, `worlds` draws.
"""
