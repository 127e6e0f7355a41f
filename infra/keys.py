"""The layout of the bucket: every key is made here and nowhere else.

Shards and escalated rows of a restricted dataset are encrypted, and their keys end in `.enc`.

::

    datasets/<dataset>/shards/<digest>.arrow.<codec>       Arrow IPC stream, compressed by the link's codec
    datasets/<dataset>/index/<source>/<fingerprint>.parquet    shard index: a row a shard
    datasets/<dataset>/index/<source>/<lineage>.latest     fingerprint of the batch that was cut last
    datasets/<dataset>/whereabouts.json                    the site that each shard was placed at last
    datasets/<dataset>/records/<source>/<fingerprint>.parquet  record index: id, label, split; a row group a shard
    datasets/<dataset>/statistics/<digest>.json            what fitted transforms know, with its own digest
    datasets/<dataset>/quarantine/<source>/<fingerprint>.parquet  rejected records: file, row, reason, values
    models/<model>/<version>/<variant>/{model.*, golden.npz, card.json, card.html}
    models/<model>/<version>/<variant>/answers/<split>.parquet  its answers on held-out rows
    models/<model>/<version>/<variant>/deltas/<digest>     what makes it of the model of that digest
    models/<model>/<version>/cloud/model.keras             the cloud variant as Keras writes it, to be compressed
    models/<model>/<version>/steps/<digest>.zip            a model on its way through a compression recipe
    models/<model>/<version>/trials/<digest>.json          what was measured of what a recipe made
    models/<model>/<version>/refused/<recipe>-<digest>.json  a variant that was not published, and why
    models/<model>/<version>/searches/<time>.json          report of a search among recipes
    models/<model>/current/<group>/<serial>-<token>.json   what the sites of a group answer with: the highest serial
    results/<key[:2]>/<key>.parquet                        record_id, prediction, confidence
    escalations/<key[:2]>/<key>.arrow.<codec>              rows that the edge was unsure of
    sites/<site>/{profile.json, public.pem, mailbox.json, presence.json}
    sites/<site>/probe                                     written and read to measure the link, then deleted
    sites/<site>/{joined.json, invitation.json, registration.json}   of a site that joins
    sites/<site>/orders/<nonce>.json                       an order as the coordinator signed it for a site that joined
    sites/<site>/outbox/<nonce>/{slot-*, parcels.json}     what such a site sent under names that nobody knew before
    models/<model>/<version>/edge/weights.npz              the edge variant's float32 net, for sites to learn on from
    sites/<site>/training/<model>/<federation>/<round>/    what a site learnt in a round: {<digest>.npz, update.json}
    sites/<site>/training/<model>/latest.json              its last round, of whatever federation
    federations/<model>/<federation>/{plan.json, rounds/, report.json}     global weights and their record, a round each
    keys/<set>/<key>/<site>.json                           data key of encrypted objects, wrapped to a site
    agreement/<what>.json                                  who coordinates it, where coordinators agree over the store
    runs/<run_id>/{plan.json, plan-<n>.json, problem.json, problem-<n>.json, orders/, answers/, receipts/, predictions/, report.json, report.html}
    runs/<run_id>/{progress/, withdrawn/}<order>.json      how far a site is with an order, what was taken back from it
    runs/<run_id>/{missing.parquet, report-<n>.json}       rows without an answer; what was reported before it was settled
    runs/latest                                            id of the run or plan that placed something last
    unsettled/<run_id>.json                                what a run that has ended left open, until it is settled
"""

from __future__ import annotations

import hashlib
import json

ENCRYPTED = ".enc"
DATA_KEYS = "keys"
UNSETTLED = "unsettled"
ESCALATIONS = "escalations"  # the order of a run's cloud that answers what the edges escalated


def digest_of(*parts: object) -> str:
    """SHA-256 of the parts' canonical JSON: the name of a computation."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def shard(dataset: str, digest: str, codec: str, encrypted: bool = False) -> str:
    """Key of a compressed shard."""
    return f"{shards(dataset)}/{digest}.arrow.{codec}{ENCRYPTED if encrypted else ''}"


def shards(dataset: str) -> str:
    """The folder of a dataset's shards, under whatever codecs."""
    return f"datasets/{dataset}/shards"


def is_shard(key: str) -> bool:
    """Whether `shard` made the key."""
    return key.startswith("datasets/") and "/shards/" in key


def shard_of(key: str) -> tuple[str, str]:
    """Digest and codec of the shard of that key: what `shard` made it from."""
    digest, _, codec = key.rpartition("/")[2].removesuffix(ENCRYPTED).partition(".arrow.")
    return digest, codec


def indexes(dataset: str) -> str:
    """The folder of a dataset's shard indexes."""
    return f"datasets/{dataset}/index"


def shard_index(dataset: str, source: str, fingerprint: str) -> str:
    """Key of a source's shard index: what a plan was made of stays, whatever later runs cut."""
    return f"{indexes(dataset)}/{source}/{fingerprint}.parquet"


def latest_index(dataset: str, source: str, lineage: str) -> str:
    """Key of the fingerprint of the batch that was cut last; `lineage` names how it was preprocessed and cut."""
    return f"datasets/{dataset}/index/{source}/{lineage}.latest"


def whereabouts(dataset: str) -> str:
    """Key of where the shards of a dataset were placed last."""
    return f"datasets/{dataset}/whereabouts.json"


def record_index(dataset: str, source: str, fingerprint: str) -> str:
    """Key of a source's record index."""
    return f"datasets/{dataset}/records/{source}/{fingerprint}.parquet"


def statistics(dataset: str, name: str) -> str:
    """Key of what a fitted transform knows of a dataset."""
    return f"datasets/{dataset}/statistics/{name}.json"


def quarantine(dataset: str, source: str, fingerprint: str) -> str:
    """Key of a source's records that do not fit the schema."""
    return f"datasets/{dataset}/quarantine/{source}/{fingerprint}.parquet"


def models(model: str) -> str:
    """The folder of a model's versions."""
    return f"models/{model}"


def model_version(model: str, version: str) -> str:
    """The folder of a version's variants."""
    return f"models/{model}/{version}"


def variant(model: str, version: str, name: str, *file: str) -> str:
    """Key of a file of a variant."""
    return "/".join(("models", model, version, name, *file))


def compression(model: str, version: str, kind: str, name: str) -> str:
    """Key of an object of a search among recipes; `kind` is its folder: `steps`, `trials`, `refused` or `searches`."""
    return f"{model_version(model, version)}/{kind}/{name}{'.zip' if kind == 'steps' else '.json'}"


def answers(model: str, version: str, name: str, split: str) -> str:
    """Key of a variant's answers on the held-out rows of a split."""
    return variant(model, version, name, "answers", f"{split}.parquet")


def pointers(model: str) -> str:
    """The folder of what the groups of sites answer with."""
    return f"models/{model}/current"


def pointer(model: str, group: str, serial: int, token: str) -> str:
    """Key of what the sites of a group answer with, since that change."""
    return f"models/{model}/current/{group}/{serial:06d}-{token}.json"


def result(key: str) -> str:
    """Key of a result in the ledger."""
    return f"results/{key[:2]}/{key}.parquet"


def result_name(digest: str, answering: str, preprocessing: str) -> str:
    """What a result is called: the digest of what it computes, so that computing it twice changes nothing."""
    return digest_of("result", digest, answering, preprocessing)


def escalation(key: str, codec: str, encrypted: bool = False) -> str:
    """Key of the rows of one shard that the edge was unsure of."""
    return f"escalations/{key[:2]}/{key}.arrow.{codec}{ENCRYPTED if encrypted else ''}"


def is_encrypted(key: str) -> bool:
    """Whether the object of that key is sealed."""
    return key.endswith(ENCRYPTED)


def profile(site: str) -> str:
    """Key of a site's measured profile."""
    return f"sites/{site}/profile.json"


def mailbox(site: str) -> str:
    """Key of the letters to a site that is a process of its own."""
    return f"sites/{site}/mailbox.json"


def presence(site: str) -> str:
    """Key of the last sign of life of a site that is a process of its own."""
    return f"sites/{site}/presence.json"


def public_key(site: str) -> str:
    """Key of a site's public key."""
    return f"sites/{site}/public.pem"


def joined(site: str) -> str:
    """Key of the entry of a site that joined."""
    return f"sites/{site}/joined.json"


def invitation(site: str) -> str:
    """Key of a site's open invitation."""
    return f"sites/{site}/invitation.json"


def registration(site: str) -> str:
    """Key of what a machine sends that wants to be the site."""
    return f"sites/{site}/registration.json"


def trial(site: str) -> str:
    """Key of the object with which a site measures its link."""
    return f"sites/{site}/probe"


def signed_orders(site: str) -> str:
    """The folder of a site's signed orders."""
    return f"sites/{site}/orders"


def signed_order(site: str, nonce: str) -> str:
    """Key of a signed order."""
    return f"{signed_orders(site)}/{nonce}.json"


def outbox(site: str, token: str) -> str:
    """The folder for what a site sends under names that nobody knew before, of one order."""
    return f"sites/{site}/outbox/{token}"


def slot(outbox: str, number: int) -> str:
    """Key of a place in an outbox."""
    return f"{outbox}/slot-{number:05}"


def parcels(outbox: str) -> str:
    """Key of what lies in which slot."""
    return f"{outbox}/parcels.json"


def training(site: str, model: str) -> str:
    """The folder of what a site learnt of a model."""
    return f"sites/{site}/training/{model}"


def backup(site: str, model: str, federation: str, number: int, file: str) -> str:
    """Key of a file of what a site learnt in a round of a federation."""
    return f"{training(site, model)}/{federation}/{number:04}/{file}"


def latest_backup(site: str, model: str) -> str:
    """Key of the description of the last round in which a site learnt something of a model."""
    return f"{training(site, model)}/latest.json"


def federations(model: str) -> str:
    """The folder of a model's federations."""
    return f"federations/{model}"


def federation(model: str, federation_id: str, file: str) -> str:
    """Key of a file of a federation."""
    return f"{federations(model)}/{federation_id}/{file}"


def federation_round(model: str, federation_id: str, number: int, file: str) -> str:
    """Key of a file of a round of a federation; round 0 is its start."""
    return federation(model, federation_id, f"rounds/{number:04}/{file}")


def wrapped_key(key_id: str, site: str) -> str:
    """Key of a data key, wrapped to a site; the first half of the id names the set."""
    return f"{DATA_KEYS}/{key_id[:32]}/{key_id[32:]}/{site}.json"


def latest_run() -> str:
    """Key of the id of the run or plan that placed something last."""
    return "runs/latest"


def unsettled(run_id: str) -> str:
    """Key of what a run that has ended left open."""
    return f"{UNSETTLED}/{run_id}.json"


def order(run_id: str, site: str, kind: str = "") -> str:
    """Key of an order of a site: its first, or one of a kind; a site's name has no dot."""
    return run(run_id, "orders", f"{order_id(site, kind)}.json")


def order_id(site: str, kind: str = "") -> str:
    """What an order of a site is called in its run."""
    return f"{site}.{kind}" if kind else site


def run(run_id: str, *parts: str) -> str:
    """Key of something that belongs to one run."""
    return "/".join(("runs", run_id, *parts))


def problem(run_id: str, number: int = 0) -> str:
    """Key of what a run's plan solves, and its solution; with a number: as it was after so many changes."""
    return run(run_id, f"problem-{number}.json" if number else "problem.json")


def agreement(what: str) -> str:
    """Key of the record of who coordinates something."""
    return f"agreement/{what}.json"


def receipt(run_id: str, order_id: str) -> str:
    """Key of what a site did for a work order."""
    return run(run_id, "receipts", f"{order_id}.json")


def progress(run_id: str, order_id: str) -> str:
    """Key of how far a site is with a work order."""
    return run(run_id, "progress", f"{order_id}.json")


def withdrawal(run_id: str, order_id: str) -> str:
    """Key of what was taken back of a work order."""
    return run(run_id, "withdrawn", f"{order_id}.json")
