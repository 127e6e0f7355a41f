"""Average what the sites learnt in a round, without those that failed or sent no update, and commit the round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.catalog import CLOUD
from data_catalog.errors import CloudEdgeError, CorruptObject, KeyMissing, ObjectMissing, SiteFailed
from data_catalog.federation import Federation, Round, SiteUpdate
from infra import federation as rounds
from infra import storage, weights
from infra.averaging import AVERAGES
from infra.progress import publish


def average_updates(
    federation: Federation, before: Round, answers: Mapping[str, SiteUpdate | Exception], home: Path, bucket: str
) -> Round:
    """The round's global weights and its record, which are in the store.

    Args:
        federation: names the average and the quorum.
        before: the round that the updates began with.
        answers: by site: its update, or what went wrong.
        home: the sites' folder on this machine, for the coordinator's key.
        bucket: of the store.

    Raises:
        SiteFailed: fewer updates than the quorum are left; says why the others are not.
    """
    store = storage.open_store(bucket)
    number = before.number + 1
    origin = rounds.read_weights(store, before.weights, before.digest)
    left_out: dict[str, str] = {}
    sent: dict[str, tuple[SiteUpdate, weights.Weights]] = {}
    for site, answer in answers.items():
        if isinstance(answer, Exception):
            left_out[site] = _one_line(answer)
            continue
        try:
            arrays = weights.unpack(rounds.read_update(store, answer, CLOUD, home), answer.key)
        except (CorruptObject, ObjectMissing, KeyMissing) as error:
            left_out[site] = _one_line(error)
            continue
        if reason := rounds.fault(answer, arrays, before, origin):
            left_out[site] = reason
        else:
            sent[site] = (answer, arrays)
    lengths = {site: weights.length(arrays, origin) for site, (_, arrays) in sent.items()}
    left_out |= rounds.too_long(lengths, origin)
    kept = [sent[site] for site in sent if site not in left_out]
    if len(kept) < federation.quorum:
        reasons = "; ".join(f"{site}: {reason}" for site, reason in left_out.items())
        raise SiteFailed(
            f"round {number} of federation {federation.federation_id} has {len(kept)} updates, fewer than the quorum of"
            f" {federation.quorum} ({reasons}); mend those sites and run again, it goes on with this round"
        )
    rows = [update.rows for update, _ in kept]
    arrays = rounds.averaged(AVERAGES.get(federation.average), [arrays for _, arrays in kept], rows)
    key, digest = rounds.put_weights(store, federation.model, federation.federation_id, number, arrays)
    done = Round(
        number=number, weights=key, digest=digest, updates=tuple(update for update, _ in kept), left_out=left_out,
        length=weights.length(arrays, origin),
    )  # fmt: skip
    rounds.put_round(store, federation, done)
    publish("federate", federation.model, number, federation.rounds, "rounds")
    return done


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, CloudEdgeError | TimeoutError) else f"{type(error).__name__}: {text[:200]}"


average_updates_task = task(name="average", cache_policy=NO_CACHE)(average_updates)
