"""`cloudedge`: run the main job, hold the local stack, look at the catalog, check that all parts work."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from cloudedge.lab_command import lab
from cloudedge.plan_command import demands_of, plan, with_demands
from cloudedge.sites_command import site
from data_catalog.errors import CloudEdgeError

if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 130  # as shells count: 128 + SIGINT


with_catalog = click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder with datasets/, models/ and sites/; repeat it.",
)
with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cloudedge")
def cli() -> None:
    """One batch of inference over data at many edge sites and in a cloud, as one accountable job."""


cli.add_command(site)
cli.add_command(lab)


@cli.command()
@click.option("--dataset", default="mnist-5k", show_default=True, help="A dataset of the catalog.")
@click.option("--model", default="digits", show_default=True, help="A model of the catalog.")
@click.option(
    "--site",
    "sites",
    multiple=True,
    help="A site that takes part; repeat it.  [default: where the data is born, and cloud]",
)
@click.option(
    "--bound", default=0.005, show_default=True, type=click.FloatRange(0, 1),
    help="How far below cloud-only the accuracy may lie: 0.005 is half a point.",
)  # fmt: skip
@click.option(
    "--confidence", default=0.95, show_default=True, type=click.FloatRange(0, 1, max_open=True),
    help="With which the bound is to hold; 0: a margin instead of a promise.",
)  # fmt: skip
@click.option(
    "--escalate-at-most",
    multiple=True,
    metavar="AMOUNT",
    help="Budget for escalations: rows (200), bytes sent (50kB), seconds on each link (10s) or a sum ('2.5 money'); of"
    " one site: edge-1=50kB; repeat it.",
)
@click.option(
    "--deadline",
    default="",
    metavar="TIME",
    help="End after this time (10min) with what is there, and name what is not.",
)
@click.option(
    "--replan/--no-replan",
    default=True,
    show_default=True,
    help="Move shards away from a site that falls behind or fails, if they may leave their origin.",
)
@click.option("--elastic", is_flag=True, help="Give work to sites of the catalog that come while the run is under way.")
@with_demands
@with_catalog
@click.option("--json", "as_json", is_flag=True, help="Print report.json, and nothing else, on standard output.")
def run(
    dataset: str,
    model: str,
    sites: tuple[str, ...],
    bound: float,
    confidence: float,
    escalate_at_most: tuple[str, ...],
    replan: bool,
    elastic: bool,
    objective: str | None,
    at_most: tuple[str, ...],
    accuracy_at_least: float | None,
    deadline: str,
    catalog: tuple[Path, ...],
    as_json: bool,
) -> int:
    """Answer a dataset's batch with a model over the sites, and report.

    The exit code is 3 if rows are missing.
    """
    from cloudedge import running

    demands = demands_of(objective, at_most, accuracy_at_least)
    given = (dataset, model, sites, bound, confidence, escalate_at_most, deadline, replan, elastic)
    return running.run(*given, catalog, as_json, demands)


cli.add_command(plan)


@cli.command()
@click.argument("run", default="")
@with_json
def reconcile(run: str, as_json: bool) -> int:
    """Settle what RUN left open, or every run: rows without an answer, and rows that wait for the cloud.

    The exit code is 3 if something stays open.
    """
    from cloudedge import reconciling

    return reconciling.reconcile(run, as_json=as_json)


@cli.command()
def up() -> None:
    """Start the local store and Prefect, and keep them running."""
    from cloudedge import running

    running.up()


@cli.command()
def down() -> None:
    """Stop what `up` started."""
    from cloudedge import running

    running.down()


@cli.command()
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    default=Path("deployments/prefect.yaml"),
    show_default=True,
    help="Prefect's file of deployments.",
)
@with_catalog
def deploy(file: Path, catalog: tuple[Path, ...]) -> None:
    """Make the flows deployments, which a person or a schedule starts, of the Prefect server that stays."""
    from cloudedge import deploying

    deploying.deploy(file, catalog)


@cli.command()
def doctor() -> None:
    """Check every part, and say what to do about those that fail."""
    from cloudedge.examination import examine

    sys.exit(examine())


@cli.command()
@with_catalog
def catalog(catalog: tuple[Path, ...]) -> None:
    """List the datasets, models and sites that a run can name."""
    from cloudedge.terminal import show_catalog

    show_catalog(catalog)


@cli.command()
@click.option("--dataset", default="mnist-5k", show_default=True, help="A dataset of the catalog.")
@click.option("--source", default="", help="One of its sources.  [default: the first]")
@with_catalog
@click.option("--picture", type=click.Path(path_type=Path), help="Where to draw.  [default: in the home]")
@with_json
def codecs(dataset: str, source: str, catalog: tuple[Path, ...], picture: Path | None, as_json: bool) -> None:
    """Try every codec on a real shard, and say which is the right one for which link."""
    from cloudedge.comparison import compare

    compare(dataset, source, catalog, picture, as_json=as_json)


@cli.command()
@click.option("--dataset", default="mnist-5k", show_default=True, help="A dataset of the catalog.")
@click.option("--model", default="digits", show_default=True, help="A model of the catalog.")
@click.option(
    "--site", "sites", multiple=True, help="A site that learns; repeat it.  [default: where the data is born]"
)
@click.option(
    "--rounds", default=20, show_default=True, type=click.IntRange(1), help="How often the weights are averaged."
)
@click.option("--average", default="mean", show_default=True, help="mean, median or trimmed_mean.")
@click.option("--epochs", default=2, show_default=True, type=click.IntRange(1), help="Of a site in a round.")
@click.option(
    "--start", default="published", show_default=True, type=click.Choice(["published", "fresh"]),
    help="Begin with the published edge variant, or with a fresh net.",
)  # fmt: skip
@click.option(
    "--quorum", default=0, type=click.IntRange(0), help="Sites that a round needs.  [default: more than half]"
)
@click.option(
    "--wait", default=600.0, show_default=True, type=click.FloatRange(0, min_open=True),
    help="Seconds that a round waits for a site.",
)  # fmt: skip
@with_catalog
@click.option("--json", "as_json", is_flag=True, help="Print the report, and nothing else, on standard output.")
def federate(
    dataset: str, model: str, sites: tuple[str, ...], rounds: int, average: str, epochs: int, start: str, quorum: int,
    wait: float, catalog: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Train a model at the sites where data is born; weights travel, records do not."""
    from cloudedge import federating

    federating.federate(
        dataset, model, sites, rounds, average, epochs, start, quorum, wait, catalog, as_json=as_json
    )  # fmt: skip


@cli.group()
def keys() -> None:
    """Look after the sites' keys to restricted datasets."""


@keys.command("list")
def list_keys() -> None:
    """Show the sites' key pairs, and who can open which data."""
    from cloudedge import site_keys

    site_keys.show()


@keys.command()
@click.argument("site")
def rotate(site: str) -> None:
    """Give SITE a new key pair; it can open what it could, and nothing is encrypted anew."""
    from cloudedge import site_keys

    site_keys.rotate(site)


@keys.command()
@click.argument("site")
def shred(site: str) -> None:
    """Destroy the keys of SITE: it can open nothing any more of what is stored, and other sites what they could."""
    from cloudedge import site_keys

    site_keys.shred(site)


@cli.group()
def models() -> None:
    """Look at the models in the store, and say which variant a group of sites answers with."""


@models.command("list")
@click.argument("model", default="")
@with_json
def list_models(model: str, as_json: bool) -> None:
    """Show the published versions of MODEL, or of all, and who answers with them."""
    from cloudedge import models

    models.list_versions(model, as_json=as_json)


@models.command("show")
@click.argument("model")
@click.option("--version", default="", help="The beginning of a version.  [default: the newest]")
@click.option("--variant", default="", help="Show this variant's card, and write its page.")
@with_json
def show_model(model: str, version: str, variant: str, as_json: bool) -> None:
    """Show a version of MODEL, and what each group of sites answers with and did before."""
    from cloudedge import models

    models.show(model, version, variant, as_json=as_json)


@models.command("compare")
@click.argument("model")
@click.option("--version", default="", help="The beginning of a version.  [default: the newest]")
@click.option("--picture", type=click.Path(path_type=Path), help="Where to draw.  [default: in the home]")
@with_json
def compare_variants(model: str, version: str, picture: Path | None, as_json: bool) -> None:
    """Compare the variants of MODEL: bytes, accuracy, speed, as a table and a picture."""
    from cloudedge import models

    models.compare(model, version, picture, as_json=as_json)


@models.command("push")
@click.argument("model")
@click.argument("variant")
@click.option("--version", default="", help="The beginning of a version.  [default: the newest]")
@click.option("--group", default="", help="Of sites.  [default: the variant's tier]")
@with_catalog
@with_json
def push_variant(model: str, variant: str, version: str, group: str, catalog: tuple[Path, ...], as_json: bool) -> None:
    """Let a group of sites answer with VARIANT of MODEL from their next run on."""
    from cloudedge import models

    models.push(model, variant, version, group, catalog, as_json=as_json)


@models.command("rollback")
@click.argument("model")
@click.option("--group", default="edge", show_default=True, help="Of sites.")
@with_json
def rollback_variant(model: str, group: str, as_json: bool) -> None:
    """Let a group of sites answer with what it did before the last push."""
    from cloudedge import models

    models.rollback(model, group, as_json=as_json)


@models.command("prune")
@click.argument("model")
@click.option("--keep", default=3, show_default=True, type=click.IntRange(0), help="Newest versions that stay.")
@click.option(
    "--history", default=2, show_default=True, type=click.IntRange(0),
    help="Of what each group answered with before, how much stays.",
)  # fmt: skip
@click.option("--yes", is_flag=True, help="Delete; without it only say what would go.")
@with_json
def prune_versions(model: str, keep: int, history: int, yes: bool, as_json: bool) -> None:
    """Delete versions of MODEL that no group of sites needs."""
    from cloudedge import models

    models.prune(model, keep, history, really=yes, as_json=as_json)


@models.command("compress")
@click.argument("model")
@click.option("--dataset", default="", help="With labels and splits.  [default: what the model is trained on]")
@click.option("--name", default="", help="Of a model from elsewhere.  [default: from its file]")
@click.option(
    "--class",
    "classes",
    multiple=True,
    help="A label, in the order of the outputs of a model from elsewhere; repeat it.",
)
@click.option("--recipe", "recipes", multiple=True, help="A recipe of the catalog; repeat it.  [default: all]")
@click.option("--max-bytes", type=click.IntRange(1), help="Most bytes to send.")
@click.option(
    "--max-ms", type=click.FloatRange(0, min_open=True), help="Most milliseconds for one row, on this machine."
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 1, min_open=True),
    help="Most loss of accuracy: 0.005 is half a point.  [default: the model's gate]",
)
@click.option(
    "--max-class-drop",
    type=click.FloatRange(0, 1, min_open=True),
    help="Most loss of accuracy in any class.  [default: the model's gate]",
)
@click.option(
    "--minutes",
    default=60.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="After which no new step is begun.",
)
@click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder with datasets/, models/, recipes/ and sites/; repeat it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and nothing else, on standard output.")
def compress_model(
    model: str,
    dataset: str,
    name: str,
    classes: tuple[str, ...],
    recipes: tuple[str, ...],
    max_bytes: int | None,
    max_ms: float | None,
    max_drop: float | None,
    max_class_drop: float | None,
    minutes: float,
    catalog: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Make MODEL small: try recipes, publish the variants that pass the gate, and say which to take.

    MODEL is a name of the catalog, or a path, URL or store:// key of a Keras file or a SavedModel.
    """
    from cloudedge import compressing

    compressing.compress(
        model,
        {
            "dataset": dataset, "name": name, "classes": classes, "recipes": recipes, "max_bytes": max_bytes,
            "max_ms": max_ms, "max_drop": max_drop, "max_class_drop": max_class_drop, "minutes": minutes,
        },
        catalog,
        as_json=as_json,
    )  # fmt: skip


@models.command()
@click.argument("site")
@click.argument("model")
@click.option("--round", "number", type=click.IntRange(1), help="Of its last federation.  [default: the last]")
def restore(site: str, model: str, number: int | None) -> None:
    """Bring back what SITE learnt of MODEL, from its backup in the store to its folder on this machine."""
    from cloudedge import federating

    federating.restore(site, model, number)


def main() -> NoReturn:
    """Run a command; an error is one line, and the exit code says whose turn it is."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = cli(standalone_mode=False)
        _exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as error:
        _exit(error.exit_code)
    except click.ClickException as error:
        _fail(f"{error.format_message()}; see `cloudedge --help`", 2)
    except CloudEdgeError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; what was computed is kept, run again to go on", INTERRUPTED)
    except BrokenPipeError:
        os._exit(1)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT} or "No space left" in str(error):
            _fail(f"no space left on this disk ({_one_line(error)}); free some and run again: what was done is kept", 1)
        _unexpected(error)
    except Exception as error:
        _unexpected(error)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a run as Ctrl-C does: servers are stopped, nothing half-written stays."""
    raise KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _unexpected(error: Exception) -> NoReturn:
    """What nobody foresaw goes to a file, not to the screen."""
    from infra.settings import read_settings

    log = read_settings().home / "logs" / "cloudedge.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(traceback.format_exception(error)))
        details = f"the details are in {log}"
    except OSError as problem:
        details = f"the details could not be written to {log} ({problem})"
    _fail(f"{type(error).__name__}: {_one_line(error)}; this is unexpected, {details}", 1)


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"cloudedge: {message}\n")
    _exit(code)


def _exit(code: int) -> NoReturn:
    """End now: threads of Prefect's and Dask's clients would keep the process for seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
