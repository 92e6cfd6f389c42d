"""The picture of the report in the README: ``python -m tests.report.picture`` writes ``docs/report.png``."""

import base64
import io
import tempfile
from pathlib import Path

from matplotlib.image import imread

from paraform.report.demo import trained_demo
from paraform.report.page import build_report
from tests.report.browser import MISSING, browser, colours, size

PICTURE = Path(__file__).parents[2] / "docs" / "report.png"
WIDTH, HEIGHT = 1280, 1640
LARGEST = 300_000  # bytes


def picture(page: str) -> bytes:
    """The top of the page as PNG, in light colours."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        file.write_text(page, encoding="utf-8")
        with browser(Path(folder) / "profile") as driver:
            size(driver, WIDTH, HEIGHT)
            colours(driver, "light")
            driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
            driver.get(file.as_uri())
            return base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])


def main() -> None:
    """Draw it, or say why it cannot be drawn."""
    if MISSING:
        raise SystemExit(MISSING)
    model, history = trained_demo()
    png = picture(build_report(model, history, title="demo"))
    height, width, *_ = imread(io.BytesIO(png)).shape
    if (width, height) != (WIDTH, HEIGHT) or len(png) > LARGEST:
        raise SystemExit(f"expected {WIDTH} x {HEIGHT} in {LARGEST} bytes, got {width} x {height} in {len(png)}")
    PICTURE.write_bytes(png)


if __name__ == "__main__":
    main()
