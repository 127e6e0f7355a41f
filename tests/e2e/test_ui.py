"""A person starts a run: a real browser, the real page of Prefect, the real worker."""

from __future__ import annotations

import json
import shutil

import pytest

from infra.stack import servers

pytestmark = pytest.mark.e2e

CHROMIUM = shutil.which("chromium")
MOST_MS = 180_000.0


@pytest.fixture
def page():
    """A page of Debian's Chromium."""
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("needs Debian's package chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            opened = browser.new_page()
            opened.set_default_timeout(MOST_MS)
            yield opened
        finally:
            browser.close()


def choose(page, shown: str, wanted: str) -> None:
    """Choose from a drop-down as the keyboard does; on a busy machine it opens late, and a second key closes it."""
    from playwright.sync_api import TimeoutError as Late

    for left in reversed(range(12)):
        page.get_by_role("button", name=shown).press("Space")
        try:
            page.get_by_text(wanted, exact=True).click(timeout=5000)
        except Late:
            if not left:
                raise
        else:
            return


def test_a_click_on_run_does_the_job(deployed_home, quick_run, up_store, page):
    """Log in, choose a model from the catalog's, click; the run ends `Completed`, and its report is in the store."""
    state = servers.read_state(deployed_home.path)
    before = {key for key in up_store.keys("runs") if key.endswith("report.json")}

    page.goto(f"{state.prefect_url}/login?redirect=/deployments")
    page.get_by_placeholder("admin:pass").fill(state.prefect_auth)
    page.get_by_role("button", name="Login").click()
    page.get_by_role("link", name="run", exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    page.get_by_text("Name of a model in the catalog").wait_for()
    choose(page, "digits", "quick")
    page.get_by_role("button", name="Submit").press("Enter")
    page.get_by_text("Completed", exact=True).first.wait_for()

    (new,) = {key for key in up_store.keys("runs") if key.endswith("report.json")} - before
    report = json.loads(up_store.get(new))
    assert report["status"] == "complete"
    assert report["model"] == "quick"
    assert report["rows_out"] == quick_run["rows_out"]
