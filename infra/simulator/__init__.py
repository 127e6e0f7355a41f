"""Discrete-event simulation of the planner's own model: many sites, no inference, the same answer for the same seed.

A site answers its own shards first; others' shards come over its link meanwhile, the stages overlapped as in the
engine, and links are shared evenly. Shards are counts, so time and memory grow with sites and events, not with shards.
What the plan knew may be wrong: sites are slower or faster than measured, and so are links; sites die, come back, or
join. What a dead site has answered is in the ledger and stays; what it had begun is lost.

A policy is asked at each look, as often as a run that is watched looks. It sees what a coordinator sees: how many shards
a site has answered and since when, which ones are not answered, and who has said nothing for a lease; how fast a site or
a link really is, it has to tell from that. It moves shards that have not been answered and may move: `replan` solves
the programme again for them at each look, `watch` decides by what a run decides by; `stay` does nothing.

`workers` is what there is, `events` plays it, `policies` sees and decides, `worlds` draws.
"""
