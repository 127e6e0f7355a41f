"""`cloudedge` in which the site that begins first takes a while to read each shard, though it was measured without.

python -m tests.slow_run <seconds> run --json ...
"""

from __future__ import annotations

import sys
import time

from cloudedge.__main__ import main
from infra import engine

READ = engine.Block.read
slow: list[str] = []


def slow_read(block, shard):
    """As `Block.read`, but slower for that site."""
    slow.append(block.site)
    if block.site == slow[0]:
        time.sleep(SECONDS)
    return READ(block, shard)


if __name__ == "__main__":
    SECONDS = float(sys.argv[1])
    engine.Block.read = slow_read
    sys.argv = ["cloudedge", *sys.argv[2:]]
    main()
