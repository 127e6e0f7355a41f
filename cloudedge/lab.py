"""`cloudedge lab`: the same job on emulated sites, by what one would do without a planner and by the plan."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import yaml
from rich.console import Console
from rich.table import Table

from cloudedge import running, terminal
from data_catalog.errors import BadInput, CloudEdgeError
from infra import keys, ledger, model_registry, settings
from infra.emulation.faults import Fault, inflict
from infra.emulation.world import Emulated, Means, Spec, emulated
from infra.progress import Progress, listening
from infra.sites import core_count
from infra.stack import servers, using_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from data_catalog.nouns import Report, Tier, VariantCard
    from infra.storage import Store

DATASET, CLOUD = "synthetic-digits", "cloud"
MODEL, FILTERS, EPOCHS = "lab-digits", [56, 112], 20  # the default model with an edge variant as heavy as real ones are
ROWS_A_MINUTE = 220_000  # of that model on two cores: what takes the plan about a minute
SHARD_ROWS = 2048
EDGES_SHARE, CLOUD_SHARE = 0.35, 0.25  # of the machine's cores at most; the rest serves
# rows a second at most, of all edges together and of the cloud: a faster machine emulates the same sites
ROWS_A_SECOND: dict[Tier, int] = {"edge": 12_000, "cloud": 3_200}
MEGABIT = 1e6 / 8
RECORD_BYTES = 28 * 28
PLANNED = 0.98  # of the bytes that may go, by the plan; orders, indexes and receipts take some, and predictions err
WORK = ("compress", "infer", "escalate")  # stages from plan to last answer
RULES = {
    "cloud-only": "cloud-only", "edge-only": "edge-only", "equal split": "equal-split", "cloudedge": "programme",
}  # fmt: skip
OURS = "cloudedge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options of the command, read."""

    speeds: tuple[float, ...]
    up: tuple[float, ...]  # Mbit/s
    down: tuple[float, ...]
    latency: tuple[float, ...]  # ms
    rows: int
    model: str
    bound: float
    fewer: float = 0.0  # times the raw bytes that our plan may send, at most; 0: as many as it likes
    faults: tuple[Fault, ...] = ()


@dataclass(slots=True)
class Trial:
    """One way of doing the job, and what came of it."""

    name: str
    report: Report
    seconds: float  # from the plan to the last answer
    wire: dict[str, tuple[int, int]] = field(
        default_factory=dict
    )  # by site: bytes that its link really carried, up and down
    failures: list[str] = field(default_factory=list)  # of runs before the one that was complete


def numbers(text: str, count: int, what: str, separator: str = ",") -> tuple[float, ...]:
    """`count` positive numbers; one stands for all.

    Raises:
        BadInput: they are something else.
    """
    try:
        found = tuple(float(part) for part in text.split(separator))
    except ValueError:
        found = ()
    found = found * count if len(found) == 1 else found
    if len(found) != count or not all(0 <= number < float("inf") for number in found):
        raise BadInput(f"{what} {text!r}: write one number, or {count} with `{separator}` between them")
    return found


def lab(wanted: Wanted, *, as_json: bool) -> None:
    """Build the world, do the job in each way, and show what came of it.

    Raises:
        CloudEdgeError: what stopped it; everything that was started is taken down.
    """
    found = settings.read_settings()
    if found.bucket or found.prefect_api_url:
        raise BadInput("the laboratory starts servers of its own; unset CLOUDEDGE_BUCKET and PREFECT_API_URL")
    home = found.home / "lab"
    settings.export(
        {
            "CLOUDEDGE_HOME": str(home),
            "CLOUDEDGE_CATALOG": os.pathsep.join(map(str, (home / "catalog", *found.catalog_folders))),
        }
    )
    servers.prepare_home(home)
    specs = world_of(wanted)
    write_catalog(home / "catalog", wanted, specs)
    found = settings.read_settings()
    with ExitStack() as stack:
        screen = stack.enter_context(terminal.quiet(home / "logs" / "run.log"))
        show = stack.enter_context(terminal.progress(to=screen))
        show("starting the store and Prefect")
        variables = stack.enter_context(using_stack(found, meanwhile=_load_flow))
        from infra.storage import open_store

        for spec in specs:  # letters of a laboratory that was interrupted
            open_store().delete(keys.mailbox(spec.name))
        show("starting the sites")
        variables = variables | {"CLOUDEDGE_SHARD_CACHE_MIB": "0"}  # or each way would find what the one before it sent
        place = stack.enter_context(emulated(specs, variables["AWS_ENDPOINT_URL"], home, variables))
        trials = experiment(wanted, place[0], open_store(), show)
        means = place[1]
    result = as_dictionary(wanted, [site.spec for site in place[0].values()], trials, means)
    from infra.report.lab_page import render

    (home / "lab.json").write_text(json.dumps(result, indent=2))
    (home / "lab.html").write_text(render(result, [trial.report for trial in trials]))
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        _show(result, home / "lab.html")


def _load_flow() -> None:
    import flows.collaborate  # noqa: F401


def world_of(wanted: Wanted) -> list[Spec]:
    """The sites: `ward-1`, `ward-2`, ... behind their links, and the cloud beside the store."""
    unit = EDGES_SHARE * core_count() / sum(wanted.speeds)
    edges = [
        Spec(
            name=f"ward-{number}", share=speed * unit, up=up * MEGABIT, down=down * MEGABIT, latency=latency / 1000
        )
        for number, (speed, up, down, latency) in enumerate(
            zip(wanted.speeds, wanted.up, wanted.down, wanted.latency, strict=True), 1
        )
    ]  # fmt: skip
    return [*edges, Spec(name=CLOUD, share=CLOUD_SHARE * core_count())]


def write_catalog(folder: Path, wanted: Wanted, specs: Sequence[Spec]) -> None:
    """The entries of the emulated sites, of what is born there, and of the model."""
    for kind in ("sites", "datasets", "models"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    model = yaml.safe_load((importlib.resources.files("data_catalog") / "models" / "digits.yaml").read_text())
    model["variants"]["edge"]["settings"] |= {"filters": FILTERS, "epochs": EPOCHS}
    (folder / "models" / f"{MODEL}.yaml").write_text(yaml.safe_dump(model))
    for spec in specs:
        entry = {
            "description": "Emulated by cloudedge lab", "tier": "cloud" if spec.name == CLOUD else "edge", "threads": 1,
            "dispatch": "mailbox",
        }  # fmt: skip
        (folder / "sites" / f"{spec.name}.yaml").write_text(yaml.safe_dump(entry))
    edges = [spec.name for spec in specs if spec.name != CLOUD]
    rows = [wanted.rows // len(edges) + (place < wanted.rows % len(edges)) for place in range(len(edges))]
    dataset = {
        "description": "Real digits, each moved and dimmed a little, born in equal parts at the emulated sites",
        "license": "as mnist-5k",
        "format": "npz",
        "sources": [
            {"site": name, "uri": f"generated://repeated_digits/{name}.npz?rows={count}&seed={seed}"}
            for seed, (name, count) in enumerate(zip(edges, rows, strict=True))
        ],
        "record": {"shape": [28, 28, 1], "dtype": "uint8", "low": 0, "high": 255, "columns": ["x"], "label": "y"},
        "shard_rows": SHARD_ROWS,
        "residency": "any",
    }
    (folder / "datasets" / f"{DATASET}.yaml").write_text(yaml.safe_dump(dataset))


def experiment(wanted: Wanted, sites: dict[str, Emulated], store: Store, show: Callable[[str], None]) -> list[Trial]:
    """The job once at the machine's full speed, to prepare; then, at the sites' own speeds, in each way.

    The sites' `spec` has the share of a core that they got.
    """
    show("preparing: the model, the data, and a first run at full speed")
    for key in store.keys(keys.indexes(DATASET)):  # of an earlier laboratory, with other speeds perhaps
        store.delete(key)
    cards = _run(wanted, "edge-only").variants
    show("measuring this machine")
    for name, share in at_pace([site.spec for site in sites.values()], rows_a_core(store, cards)).items():
        sites[name].spec = replace(sites[name].spec, share=share)
    slow_codecs(store, {name: site.spec.share for name, site in sites.items()})
    for site in sites.values():
        store.delete(keys.profile(site.spec.name))
        site.set_share(site.spec.share)
    trials = []
    for name in RULES:
        show(f"{name}: the whole job")
        trials.append(_trial(wanted, name, sites, store))
    return trials


def rows_a_core(store: Store, cards: Mapping[Tier, VariantCard]) -> dict[Tier, float]:
    """Rows a second that one core of this machine answers with each tier's variant, while the others do the same."""
    from tasks.probe_site import measure_speed

    models = {tier: model_registry.fetch(store, card, {})[0] for tier, card in cards.items()}
    return {tier: measure_speed(card, models[tier], core_count()).rows_per_second for tier, card in cards.items()}


def at_pace(specs: Sequence[Spec], core: Mapping[Tier, float]) -> dict[str, float]:
    """The share of a core that each site gets: no more than it takes to answer `ROWS_A_SECOND`.

    Args:
        specs: of the sites, with the largest shares that they may have.
        core: rows a second of one core, by tier.
    """
    shares: dict[str, float] = {}
    for tier, rate in core.items():
        mine = [spec for spec in specs if (spec.name == CLOUD) == (tier == "cloud")]
        part = min(1.0, ROWS_A_SECOND[tier] / (rate * sum(spec.share for spec in mine)))
        shares |= {spec.name: spec.share * part for spec in mine}
    return shares


def slow_codecs(store: Store, shares: dict[str, float]) -> None:
    """Let the codecs be as slow as if each origin had tried them at its own speed, which would take minutes."""
    for key in store.keys(keys.indexes(DATASET)):
        if key.endswith(".parquet"):
            index = ledger.read_index(store.get(key), key)
            share = min(1.0, shares[index.shards[0].origin])
            trials = tuple(
                trial.model_copy(
                    update={
                        "compress_bytes_per_second": share * trial.compress_bytes_per_second,
                        "decompress_bytes_per_second": share * trial.decompress_bytes_per_second,
                    }
                )
                for trial in index.trials
            )
            store.put(key, ledger.write_index(list(index.shards), index.fingerprint, trials, index.lossy_error))


def _trial(wanted: Wanted, name: str, sites: dict[str, Emulated], store: Store) -> Trial:
    """One way of doing the job, with an empty ledger and all shards at home; the faults are inflicted on ours alone."""
    for folder in ("results", "escalations", keys.shards(DATASET)):
        for key in store.keys(folder):
            store.delete(key)
    if store.exists(keys.whereabouts(DATASET)):  # no way of doing it begins where the one before has ended
        store.delete(keys.whereabouts(DATASET))
    before = {each: site.passed() for each, site in sites.items()}
    failures: list[str] = []
    begun = threading.Event()

    def started(event: Progress) -> None:
        if event.stage == "infer":
            begun.set()

    with listening(started), inflict(wanted.faults if name == OURS else (), sites, store, begun):
        while True:
            first = time.time()
            try:
                report = _run(wanted, name)
                break
            except CloudEdgeError as error:
                failures.append(str(error))
                if name != OURS or not wanted.faults or len(failures) > len(wanted.faults):
                    raise
    trial = Trial(name, report, _seconds(report) if not failures else time.time() - first, failures=failures)
    time.sleep(1.0)  # the relays count twice a second
    for each, site in sites.items():
        up, down = site.passed()
        trial.wire[each] = (up - before[each][0], down - before[each][1])
    return trial


def _run(wanted: Wanted, name: str) -> Report:
    from flows.collaborate import collaborate

    names = tuple(f"ward-{number}" for number in range(1, len(wanted.speeds) + 1))
    # under a bound of 1 nothing escalates: the edge's answer stands
    bound = 1.0 if name == "edge-only" else wanted.bound
    most = wanted.rows * RECORD_BYTES / wanted.fewer * PLANNED if wanted.fewer and name == OURS else None
    return running.call_flow(
        collaborate, DATASET, wanted.model, (*names, CLOUD), bound, rule=RULES[name],
        at_most=(f"{most:.0f}B",) if most else (),
    )  # fmt: skip


def _seconds(report: Report) -> float:
    """From the plan to the last answer: shards that move, first answers, second answers."""
    spans = [span for span in report.spans if span.stage in WORK]
    return max(span.end for span in spans) - min(span.start for span in spans)


def as_dictionary(wanted: Wanted, specs: Sequence[Spec], trials: Sequence[Trial], means: Means) -> dict[str, Any]:
    """What is printed with `--json`: seconds, bytes, shares of rows."""
    return {
        "rows": wanted.rows, "model": wanted.model, "bound": wanted.bound, "fewer": wanted.fewer,
        "emulation": {"links": means.links, "latency": means.latency, "speed": means.speed},
        "sites": [
            {"name": spec.name, "share_of_a_core": spec.share, "up_bytes_per_second": spec.up if spec.linked else None,
             "down_bytes_per_second": spec.down if spec.linked else None, "latency_seconds": spec.latency}
            for spec in specs
        ],
        "faults": [str(fault) for fault in wanted.faults],
        "trials": [
            {
                "name": trial.name, "seconds": trial.seconds, "predicted_seconds": trial.report.predicted_seconds,
                "lower_bound_seconds": getattr(trial.report, "lower_bound", 0.0),
                "accuracy": trial.report.accuracy["cascade"], "rows": trial.report.rows_out,
                "missing_rows": trial.report.missing_rows, "duplicate_rows": trial.report.duplicate_rows,
                "escalated_rows": trial.report.escalated_rows, "pending_rows": trial.report.pending_rows, "raw_bytes": trial.report.raw_bytes,
                "link_bytes": trial.report.wan_bytes, "predicted_link_bytes": trial.report.predicted_wan_bytes,
                "wire_bytes": sum(map(sum, trial.wire.values())),
                "rows_by_site": {line.name: line.rows for line in trial.report.sites},
                "seconds_by_site": {line.name: line.seconds for line in trial.report.sites},
                "failures": trial.failures, "run_id": trial.report.run_id,
            }
            for trial in trials
        ],
    }  # fmt: skip


def _show(result: dict[str, Any], page: Path) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    about = f"{result['rows']:,} rows answered by {result['model']} over {len(result['sites']) - 1} edges and a cloud"
    table = Table(title=about, title_justify="left", box=None, pad_edge=False)
    for column in (
        "way",
        "seconds",
        "predicted",
        "bound",
        "accuracy",
        "over the links",
        "predicted",
        "raw",
        "fewer",
        "on the wire",
    ):
        table.add_column(column, justify="left" if column == "way" else "right")
    for trial in result["trials"]:
        accuracy = "not known" if trial["accuracy"] is None else f"{trial['accuracy']:.2%}"
        fewer = trial["raw_bytes"] / max(1, trial["link_bytes"])
        table.add_row(
            trial["name"], f"{trial['seconds']:.1f}", f"{trial['predicted_seconds']:.1f}",
            f"{trial['lower_bound_seconds']:.1f}" if trial["lower_bound_seconds"] else "", accuracy,
            f"{trial['link_bytes']:,}", f"{trial['predicted_link_bytes']:,}", f"{trial['raw_bytes']:,}", f"{fewer:.1f} x",
            f"{trial['wire_bytes']:,}",
        )  # fmt: skip
    console.print(table)
    console.print()
    ours = next(trial for trial in result["trials"] if trial["name"] == OURS)
    naive = min((trial for trial in result["trials"] if trial["name"] != OURS), key=lambda trial: trial["seconds"])
    lines = [f"{ours['rows']:,} rows, {ours['missing_rows']} missing, {ours['duplicate_rows']} duplicate"]
    if ours["pending_rows"]:
        lines += [
            f"{ours['pending_rows']:,} rows that the edge is unsure of wait for the cloud; the edge's answer stands"
        ]
    lines += [f"{naive['name']}, the best of the others, takes {naive['seconds'] / ours['seconds']:.2f} times as long"]
    lines += [f"{what}: {how}" for what, how in result["emulation"].items()]
    lines += [f"fault: {fault}" for fault in result["faults"]]
    lines += [f"stopped once, and run again: {failure}" for failure in ours["failures"]]
    for line in [*lines, f"picture: {page}"]:
        console.print(line, markup=False)


FAULT = re.compile(r"(?P<site>[a-z0-9-]+)@(?P<at>[\d.]+)s(\+(?P<lasts>[\d.]+)s)?(/(?P<factor>[\d.]+))?$")


def read_faults(kind: str, texts: Sequence[str], names: Sequence[str]) -> list[Fault]:
    """What `--cut`, `--kill`, `--slow` and `--corrupt` say: `ward-2@10s+20s`, `cloud@15s`, `ward-1@10s/4`.

    Raises:
        BadInput: something else, or no such site.
    """
    faults = []
    for text in texts:
        found = FAULT.match(text)
        if not found or (kind == "cut" and not found["lasts"]) or (kind == "slow" and not found["factor"]):
            example = {"cut": "ward-2@10s+20s", "slow": "ward-1@10s/4", "kill": "cloud@15s+5s"}.get(kind, "ward-3@5s")
            raise BadInput(f"--{kind} {text!r}: write e.g. {example}, in seconds after the first answers begin")
        if found["site"] not in names:
            raise BadInput(f"--{kind} {text!r}: there is no site {found['site']!r}; there are {', '.join(names)}")
        lasts, factor = found["lasts"], found["factor"]
        faults.append(
            Fault(kind, found["site"], float(found["at"]), float(lasts) if lasts else None, float(factor or 1))
        )  # fmt: skip
    return faults
