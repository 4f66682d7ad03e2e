"""The approval as people give it: in Chromium, on Airflow's own Required Actions page.

``SCREENSHOTS=folder`` keeps what was seen.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trial import ENVIRONMENT, Trial, pipeline_text

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

MODEL = "browsed"
DEADLINE_MS = 30_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """A real Airflow with a model whose releases two people have to approve."""
    approval = "{required: always, approvers: [approver, second, engineer], count: 2}"
    running = Trial(tmp_path_factory.mktemp("browser"), {MODEL: pipeline_text(MODEL, approval=approval)})
    try:
        running.start()
        running.candidate(MODEL)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium from Debian's package."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found is not None, "no Chromium on this machine: apt-get install chromium"
    with sync_playwright() as driver:
        # Chromium refuses to keep its sandbox as root, and shared memory is small in containers.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
        running = driver.chromium.launch(executable_path=found, args=arguments)
        yield running
        running.close()


@contextmanager
def page_of(browser: Browser, trial: Trial, person: str) -> Iterator[Page]:
    """A window in which somebody is signed in."""
    context = browser.new_context(viewport={"width": 1280, "height": 1400})
    context.set_default_timeout(DEADLINE_MS)
    page = context.new_page()
    page.goto(f"{trial.deployment.airflow_url}/")
    page.fill('input[name="username"]', person)
    page.fill('input[name="password"]', trial.deployment.users[person])
    page.click('button[type="submit"]')
    page.wait_for_url(lambda url: "login" not in url)
    yield page
    context.close()


def answer(page: Page, trial: Trial, run_id: str, option: str, *, reason: str) -> None:
    """Open the question from the list of required actions, and press its button."""
    page.goto(f"{trial.deployment.airflow_url}/required_actions")
    page.locator(f'a[href*="{run_id}"][href*="tasks/approve"]').first.click()
    button = page.get_by_role("button", name=re.compile(option))
    button.wait_for()
    page.locator('input[name*="reason"], #element_reason, textarea').first.fill(reason)
    button.click()


def keep(page: Page, name: str) -> None:
    """A picture for the documentation, where one is wanted."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.wait_for_timeout(1500)  # until nothing moves any more
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_two_people_approve_in_the_browser_and_the_requester_is_told_why_not(trial: Trial, browser: Browser) -> None:
    run_id = str(trial.ask(MODEL, by="admin")["task_instance"]["dag_run_id"])

    with page_of(browser, trial, "engineer") as page:
        answer(page, trial, run_id, "Approve [0-9a-f]{8}", reason="it is mine")
        page.get_by_text(re.compile("so somebody else has to approve it")).first.wait_for()
        keep(page, "approval_refused")
    with page_of(browser, trial, "approver") as page:
        answer(page, trial, run_id, "Approve [0-9a-f]{8}", reason="the gate passed")
        page.locator('button[data-testid^="hitl-option-Approve"]:disabled').wait_for()
    question = trial.question(f"{MODEL}_release", run_id)
    with page_of(browser, trial, "second") as page:
        page.goto(f"{trial.deployment.airflow_url}/required_actions")
        page.locator(f'a[href*="{run_id}"][href*="tasks/approve"]').first.click()
        page.get_by_text("Gate").first.wait_for()
        keep(page, "approval_second")
        answer(page, trial, run_id, question["options"][0], reason="seen by two")

    assert trial.ended(f"{MODEL}_release", run_id) == "success"
    move = trial.ledger.head(MODEL, ENVIRONMENT)
    assert move is not None
    decision = trial.ledger.decision(move.decision_id or "")
    assert decision is not None
    assert decision.approved_by == ("approver", "second")
    assert "engineer asked for" in trial.refusals(MODEL)
