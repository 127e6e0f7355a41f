"""Which steps run in which order: the flows, one a file, found by Prefect as modules (`flows.collaborate.collaborate`).

A flow is synchronous, passes references (keys, digests) and small nouns, and holds no logic of its own.
"""

from flows._patience import share_what_was_reached

share_what_was_reached()
