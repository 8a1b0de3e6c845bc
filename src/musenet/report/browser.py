"""The page's figures as PNG, drawn by a headless browser of the Chromium family, all in one start and without network.

The browser opens the page itself, draws every figure once more at a fixed size on white, and hands the pictures back in
the document that it prints.
"""

import base64
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
WIDTH = 900
SECONDS = 120

_FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=60000",
    "--dump-dom",
)

# The figures have no colours of text and paper of their own (the style sheet gives them), so they get black on white.
_DRAW = """<script>
window.addEventListener("load", async () => {
  for (const [name, figure] of Object.entries(JSON.parse(document.getElementById("figures").textContent))) {
    const layout = { ...figure.layout, width: %d, paper_bgcolor: "white", plot_bgcolor: "white" };
    layout.font = { ...layout.font, color: "black", family: "sans-serif" };
    layout.margin = { l: 30, r: 30, t: 50, b: 30 };
    const drawn = document.createElement("img");
    drawn.className = "drawn";
    drawn.dataset.name = name;
    const size = { format: "png", width: layout.width, height: layout.height, scale: 2 };
    drawn.dataset.png = await Plotly.toImage({ data: figure.data, layout: layout }, size);
    document.body.append(drawn);
  }
});
</script>"""

_DRAWN = re.compile(r'data-name="([a-z-]+)" data-png="data:image/png;base64,([^"]+)"')


def find_browser() -> str | None:
    """A browser that can draw; None if there is none on the path."""
    return next((found for name in BROWSERS if (found := shutil.which(name)) is not None), None)


def draw_figures(page: Path, browser: str) -> dict[str, bytes]:
    """Each figure of the page as PNG, by name.

    Raises:
        OSError: if the browser does not start, draws nothing, or takes more than two minutes.
    """
    before, after = page.read_text(encoding="utf-8").rsplit("</body>", 1)
    with tempfile.TemporaryDirectory(prefix="musenet-") as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(f"{before}{_DRAW % WIDTH}</body>{after}", encoding="utf-8")
        # The sandbox refuses to run as root, which is what containers are.
        as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        command = [browser, *_FLAGS, *as_root, f"--user-data-dir={folder}/profile", copy.as_uri()]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{browser} did not finish within {SECONDS} seconds") from error
    found = {name: base64.b64decode(png) for name, png in _DRAWN.findall(answer.stdout)}
    if not found:
        lines = answer.stderr.strip().splitlines() or ["no figure came back"]
        raise OSError(f"{browser} drew nothing ({lines[-1][:200]})")
    return found
