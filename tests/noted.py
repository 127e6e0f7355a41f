"""`cloudedge`, or what a Dask worker loads first, noting each shard in the file NOTED when it has been computed.

python -m tests.noted site work ward-1
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from contextlib import contextmanager

from cloudedge.__main__ import main
from infra import engine

BORROW = engine.Predictors.borrow


@contextmanager
def noting(self):
    """As `Predictors.borrow`; a predictor whose answers are noted, by what was asked."""
    with BORROW(self) as predict:

        def noted(x):
            logits = predict(x)
            asked = hashlib.blake2b(x.tobytes(), key=self.card.digest[:16].encode(), digest_size=16).hexdigest()
            line = (
                json.dumps({"shard": asked, "worker": [os.getpid(), threading.get_ident()], "at": time.time()}) + "\n"
            )
            file = os.open(os.environ["NOTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(file, line.encode())  # one write: whole, whoever else writes and whatever dies
            os.close(file)
            return logits

        yield noted


engine.Predictors.borrow = noting

if __name__ == "__main__":
    sys.argv[0] = "cloudedge"
    main()
