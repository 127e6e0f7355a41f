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

from data_catalog.errors import CloudEdgeError

if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 130  # as shells count: 128 + SIGINT


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="cloudedge")
def cli() -> None:
    """One batch of inference over data at many edge sites and in a cloud, as one accountable job."""


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
    help="Budget of the run for escalations: rows (200), bytes sent (50kB), or seconds on each link (10s); repeat it.",
)
@click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder with datasets/, models/ and sites/; repeat it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print report.json, and nothing else, on standard output.")
def run(
    dataset: str,
    model: str,
    sites: tuple[str, ...],
    bound: float,
    confidence: float,
    escalate_at_most: tuple[str, ...],
    catalog: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Answer a dataset's batch with a model over the sites, and report."""
    from cloudedge import running

    running.run(dataset, model, sites, bound, confidence, escalate_at_most, catalog, as_json)


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
def doctor() -> None:
    """Check every part, and say what to do about those that fail."""
    from cloudedge.examination import examine

    sys.exit(examine())


@cli.command()
@click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder with datasets/, models/ and sites/; repeat it.",
)
def catalog(catalog: tuple[Path, ...]) -> None:
    """List the datasets, models and sites that a run can name."""
    from cloudedge.terminal import show_catalog

    show_catalog(catalog)


@cli.command()
@click.option("--dataset", default="mnist-5k", show_default=True, help="A dataset of the catalog.")
@click.option("--source", default="", help="One of its sources.  [default: the first]")
@click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A folder with datasets/, models/ and sites/; repeat it.",
)
@click.option("--picture", type=click.Path(path_type=Path), help="Where to draw.  [default: in the home]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else, on standard output.")
def codecs(dataset: str, source: str, catalog: tuple[Path, ...], picture: Path | None, as_json: bool) -> None:
    """Try every codec on a real shard, and say which is the right one for which link."""
    from cloudedge.comparison import compare

    compare(dataset, source, catalog, picture, as_json=as_json)


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
