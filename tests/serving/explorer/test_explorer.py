"""The explorer in a real browser: its journey, by hand and by keyboard, without an error, for every reader."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from musenet.serving.export.export import export_run
from musenet.serving.http.app import create_app
from musenet.serving.http.middleware import Access
from musenet.serving.service.service import Service
from places import ROOT
from serving.apps import all_events
from serving.exports import Exported

pytestmark = pytest.mark.slow

AXE = Path(os.environ.get("AXE_CORE", ROOT / "build" / "axe-core" / "axe.min.js"))
PATIENCE = 120_000
"""Milliseconds: a busy machine is slow, not wrong."""
TOKEN = "a-token-of-some-length"
SCENARIOS = {
    "scenarios": [{"scenario": 1, "share": 0.6, "sentence": "Scenario 1 (60 %) is <b>calm</b>."}],
    "html": '<section aria-labelledby="scenarios"><h2 id="scenarios">The scenarios</h2><ol class="portraits">'
    '<li style="--mark: #0072b2"><strong>Scenario 1</strong> is calm.</li></ol><figure id="shares"><h3>Shares</h3>'
    '<div class="plot" id="plot-shares" role="img" aria-label="Shares" style="min-height: 300px"></div></figure>'
    "</section>",
    "figures": {"shares": {"data": [{"type": "bar", "x": [1, 2], "y": [0.6, 0.4]}], "layout": {"height": 300}}},
}


@contextmanager
def served(service: Service, access: Access) -> Iterator[str]:
    """The address of the service, in a thread of its own."""
    config = uvicorn.Config(create_app(service, access), host="127.0.0.1", port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("explorer")
    export_run(exported.run, folder / "export", lambda _: SCENARIOS)
    with served(Service(folder / "export", str(folder / "history.sqlite")), Access(TOKEN)) as found:
        headers = {"authorization": f"Bearer {TOKEN}"}
        sent = httpx.post(f"{found}/events", json={"events": all_events(exported)}, headers=headers, timeout=60)
        assert sent.status_code == 200
        yield found


@contextmanager
def page_at(browser: Any, address: str, path: str = "/", **options: Any) -> Iterator[Any]:
    """A page that has been let in; at its end, nothing has gone wrong on it."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
    context.add_init_script(f"sessionStorage.setItem('token', '{TOKEN}')")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if not request.url.startswith(address) else None)
    page.goto(address + path)
    yield page
    assert problems == []
    context.close()


def scores(page: Any) -> list[str]:
    return list(page.locator("#ranking .head").all_inner_texts())


def changed(page: Any, before: list[str]) -> None:
    """Wait until the ranking says something else."""
    page.wait_for_function(
        "(before) => [...document.querySelectorAll('#ranking .head')].map((e) => e.innerText).join() !== before",
        arg=",".join(before),
    )


def test_the_journey(browser: Any, address: str) -> None:
    with page_at(browser, address) as page:
        page.locator("#ranking li .value").first.wait_for()
        assert page.locator("#mixture .share").count() == 3
        assert page.locator("#history li").count() >= 5
        before = scores(page)
        page.get_by_label("device").select_option("desk")
        page.get_by_label("party").select_option("4")
        changed(page, before)
        before = scores(page)
        page.locator("#user").fill("u3")
        page.get_by_role("button", name="Look up").click()
        changed(page, before)
        before = scores(page)
        page.get_by_label("Item of a new event").fill("i7")
        page.get_by_role("button", name="Add", exact=True).first.click()
        changed(page, before)
        assert "i7" in page.locator("#history li").first.inner_text()
        page.get_by_label("Add a candidate").fill("i7")
        page.locator("#candidate").press("Enter")
        row = page.locator("#ranking li", has=page.get_by_text("i7", exact=True))
        row.get_by_text("had before").wait_for()
        assert "scenario 0:" in row.inner_text()
        page.get_by_role("button", name="Remove i7").first.click()
        page.get_by_role("link", name="Scenarios").click()
        page.locator("#plot-shares .main-svg").first.wait_for()
        assert page.get_by_text("Scenario 1 is calm.").is_visible()


def test_what_the_service_refuses_is_said(browser: Any, address: str) -> None:
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(address)
    page.get_by_label("This service asks for its token").fill("wrong")
    page.get_by_role("button", name="Use it").click()
    page.get_by_text("the bearer token is missing or wrong").wait_for()
    page.locator("#token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator("#ranking li .value").first.wait_for()
    assert page.locator("#problem").is_hidden()
    assert page.locator("#token-form").is_hidden()
    page.locator("#candidate").fill("x" * 300)
    page.keyboard.press("Enter")
    page.get_by_text("takes an id").wait_for()
    page.locator("#candidate").fill("new here")
    page.keyboard.press("Enter")
    row = page.locator("#ranking li", has=page.get_by_text("new here", exact=True))
    row.wait_for()
    assert row.locator(".moved").inner_text() == ""  # it was nowhere before
    assert page.locator("#problem").is_hidden()
    context.close()


def test_narrow_pages_do_not_scroll_sideways(browser: Any, address: str) -> None:
    for path, ready in (("/", "#ranking li .value"), ("/explorer/static/scenarios.html", "#plot-shares .main-svg")):
        with page_at(browser, address, path) as page:
            page.set_viewport_size({"width": 360, "height": 740})
            page.locator(ready).first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_reader_is_left_out(browser: Any, address: str, scheme: str) -> None:
    if not AXE.is_file():
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"axe-core is not at {AXE}: .ci/run fetches it")
        pytest.skip("axe-core is not there: .ci/run fetches it")
    for path, ready in (("/", "#ranking li .value"), ("/explorer/static/scenarios.html", "#plot-shares .main-svg")):
        with page_at(browser, address, path, color_scheme=scheme) as page:
            page.locator(ready).first.wait_for()
            page.evaluate(AXE.read_text(encoding="utf-8"))
            found = page.evaluate("axe.run()")["violations"]
            serious = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
            assert serious == []
