"""Pictures of a running explorer for the docs: wide and light, narrow and dark.

musenet serve export --store history.sqlite &
python docs/explorer_pictures.py --user u0000042
"""

from pathlib import Path
from typing import Annotated, Literal

import typer
from playwright.sync_api import sync_playwright

from musenet.reporting.figures.browser import find_browser

DOCS = Path(__file__).parent
PICTURES: dict[str, tuple[int, int, Literal["light", "dark"]]] = {
    "explorer-wide": (1100, 1000, "light"),
    "explorer-narrow-dark": (360, 1000, "dark"),
}
QUALITY = 70


def main(
    address: Annotated[str, typer.Option(help="of the service")] = "http://127.0.0.1:8000",
    user: Annotated[str | None, typer.Option(help="whose history is shown (the first one, if left out)")] = None,
    out: Annotated[Path, typer.Option(help="the folder")] = DOCS,
) -> None:
    """Take the pictures."""
    browser = find_browser()
    if browser is None:
        raise SystemExit("no Chromium or Chrome is on the path")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        for name, (width, height, scheme) in PICTURES.items():
            context = opened.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            page.goto(address)
            page.locator("#ranking li .value").first.wait_for()
            if user is not None:
                page.locator("#user").fill(user)
                page.get_by_role("button", name="Look up").click()
                page.wait_for_load_state("networkidle")
            page.screenshot(path=out / f"{name}.jpg", type="jpeg", quality=QUALITY)
            context.close()
        opened.close()


if __name__ == "__main__":
    typer.run(main)
