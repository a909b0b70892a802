"""Take a screenshot of the lineage of the Dagster code location.

    python scripts/draw_lineage.py docs/lineage.png [--width 1600] [--height 1180]

Needs Chromium and the extra ``dev``; starts ``dagster dev`` in a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("png", type=Path)
    parser.add_argument("--width", type=int, default=1600)
    parser.add_argument("--height", type=int, default=1180)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.helpers.browser import open_chromium, watch
    from tests.helpers.webserver import dagster_dev, show_lineage

    with (
        TemporaryDirectory() as folder,
        open_chromium() as browser,
        dagster_dev(Path(folder)) as address,
    ):
        page = watch(browser, address, given.width, given.height).page
        show_lineage(page, address)
        page.screenshot(path=given.png)


if __name__ == "__main__":
    main()
