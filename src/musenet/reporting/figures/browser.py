"""The page's figures as PNG, drawn by a headless browser of the Chromium family, all in one start and without network.

The browser opens the page itself, draws every figure once more at a fixed size on white, and hands the pixels back in
the document that it prints.
"""

import base64
import os
import re
import shutil
import subprocess
import tempfile
import zlib
from pathlib import Path

import numpy as np

from musenet.reporting.figures.png import indexed_png

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
WIDTH = 900
SCALE = 1.4
"""Pixels of the picture by those of the drawing."""
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
const packed = async (url) => {
  const image = new Image();
  await new Promise((done) => { Object.assign(image, { onload: done, src: url }); });
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  // Written and read by hand: a blob comes by way of another process, which a clock run ahead does not wait for.
  const deflate = new CompressionStream("deflate");
  const writer = deflate.writable.getWriter();
  writer.write(pixels);
  writer.close();
  let text = "";
  for (const reader = deflate.readable.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) return { width: image.width, pixels: btoa(text) };
    for (let at = 0; at < value.length; at += 8192) text += String.fromCharCode(...value.subarray(at, at + 8192));
  }
};
window.addEventListener("load", async () => {
  for (const [name, figure] of Object.entries(JSON.parse(document.getElementById("figures").textContent))) {
    const layout = { ...figure.layout, width: %d, paper_bgcolor: "white", plot_bgcolor: "white" };
    layout.font = { ...layout.font, color: "black", family: "sans-serif" };
    layout.margin = { l: 30, r: 30, t: 50, b: 30 };
    layout.annotations = (layout.annotations || []).map((one) => ({ ...one, bgcolor: "rgba(255,255,255,0.8)" }));
    const size = { format: "png", width: layout.width, height: layout.height, scale: %s };
    const drawn = document.createElement("img");
    drawn.className = "drawn";
    drawn.dataset.name = name;
    Object.assign(drawn.dataset, await packed(await Plotly.toImage({ data: figure.data, layout: layout }, size)));
    document.body.append(drawn);
  }
});
</script>"""

_DRAWN = re.compile(r'data-name="([a-z-]+)" data-width="(\d+)" data-pixels="([^"]+)"')


def find_browser() -> str | None:
    """A browser that can draw; None if there is none on the path."""
    return next((found for name in BROWSERS if (found := shutil.which(name)) is not None), None)


def draw_figures(html: str, browser: str) -> dict[str, bytes]:
    """Each figure of a page as PNG, by name.

    Raises:
        OSError: if the browser does not start, draws nothing, or takes more than two minutes.
    """
    before, after = html.rsplit("</body>", 1)
    with tempfile.TemporaryDirectory(prefix="musenet-") as folder:
        page = Path(folder) / "page.html"
        page.write_text(f"{before}{_DRAW % (WIDTH, SCALE)}</body>{after}", encoding="utf-8")
        # The sandbox refuses to run as root, which is what containers are.
        as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        command = [browser, *_FLAGS, *as_root, f"--user-data-dir={folder}/profile", page.as_uri()]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{browser} did not finish within {SECONDS} seconds") from error
    found = {name: _png(int(width), pixels) for name, width, pixels in _DRAWN.findall(answer.stdout)}
    if not found:
        lines = answer.stderr.strip().splitlines() or ["no figure came back"]
        raise OSError(f"{browser} drew nothing ({lines[-1][:200]})")
    return found


def _png(width: int, packed: str) -> bytes:
    """From red, green, blue and opacity of each pixel, deflated, in base64."""
    pixels = np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype=np.uint8)
    return indexed_png(pixels.reshape(-1, width, 4)[:, :, :3])
