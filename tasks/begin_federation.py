"""Name a federation and store what it begins with, or find the one of these settings that is not finished."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog.errors import BadInput, CatalogError
from data_catalog.federation import Federation, LocalTraining, Start
from data_catalog.nouns import Dataset, Model, Tier, VariantCard
from infra import federation, keys, local_training, shards, storage, weights
from infra.averaging import AVERAGES


def begin_federation(
    model: Model,
    dataset: Dataset,
    sites: Sequence[str],
    rounds: int,
    average: str,
    local: LocalTraining,
    start: Start,
    quorum: int,
    cards: Mapping[Tier, VariantCard],
    bucket: str,
) -> Federation:
    """The federation of these settings that is to go on, else a new one.

    Args:
        model: whose edge variant is trained.
        dataset: whose records are at the sites.
        sites: that take part; none: where the dataset is born.
        rounds: how many.
        average: name of an average.
        local: how a site trains.
        start: from the published edge variant, or from a fresh net.
        quorum: updates without which a round fails; 0: more than half of the sites.
        cards: the model's published variants.
        bucket: of the store.

    Raises:
        UnknownName: there is no such average.
        CatalogError: a site has no source of the dataset, the dataset no training split, or the model another recipe.
        BadInput: the quorum is more than there are sites, or the published variant was stored without its weights.
    """
    store = storage.open_store(bucket)
    AVERAGES.get(average, "--average")
    local_training.check(model)
    born = list(dict.fromkeys(source.site for source in dataset.sources))
    chosen = tuple(dict.fromkeys(sites or born))
    if strangers := [site for site in chosen if site not in born]:
        raise CatalogError(
            f"dataset {dataset.name} has no source at site {strangers[0]}; name sites where it is born: {', '.join(born)}"
        )
    if "train" not in dataset.splits:
        raise CatalogError(
            f"dataset {dataset.name} has no split 'train' in `splits`, so there is nothing to learn; add it"
        )
    if quorum > len(chosen):
        raise BadInput(f"a quorum of {quorum} is more than the {len(chosen)} sites that take part; lower it")
    shape = cards["edge"].shape
    arrays = (
        local_training.published_weights(store, cards["edge"])
        if start == "published"
        else local_training.fresh_weights(model, shape)
    )
    content = dataset.model_dump(
        mode="json", exclude={"description", "license", "purpose", "batch", "shard_bytes", "shard_rows"}
    )
    named = keys.digest_of(
        "federation", model.model_dump(mode="json", exclude={"description", "gate"}), content, chosen, rounds, average,
        local.model_dump(), quorum, shards.digest(weights.pack(arrays)),
    )[:12]  # fmt: skip
    federation_id = f"{named}-{_finished(store, model.name, named) + 1}"
    key = keys.federation(model.name, federation_id, federation.PLAN)
    if there := federation.read_noun(store, key, Federation):
        return there
    stored, digest = federation.put_weights(store, model.name, federation_id, 0, arrays)
    begun = Federation(
        federation_id=federation_id, model=model.name, dataset=dataset.name, sites=chosen, shape=shape, rounds=rounds,
        average=average, local=local, start=start, weights=stored, digest=digest, quorum=quorum or len(chosen) // 2 + 1,
    )  # fmt: skip
    federation.put_noun(store, key, begun)
    return begun


def _finished(store: storage.Store, model: str, named: str) -> int:
    """How many federations of that name have a report: run again, a finished one is a new one, on what is there now."""
    prefix, report = f"{keys.federations(model)}/{named}-", f"/{federation.REPORT}"
    return sum(key.startswith(prefix) and key.endswith(report) for key in store.keys(keys.federations(model)))


begin_federation_task = task(name="begin federation", cache_policy=NO_CACHE)(begin_federation)
