"""What the explorer costs over 100,000 features: time, bytes, script, first paint, memory.

    python benchmarks/pages.py [--saes 25] [--features 4096] [--seconds 10] [--rate 50]

The database is that of ``serving.py``, with one more SAE that has all its features, for the map and
the table.  The API runs as users run it, one process; requests come from a process of their own at
a fixed rate, and times count from when a request was due.  Where Chromium is missing, what takes a
browser is left out and said so.  Everything shares this machine's cores.
"""

from __future__ import annotations

import argparse
import gzip
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from results import machine
from serving import (
    Api,
    Load,
    Report,
    fill,
    options_of,
    put_load,
    report_loads,
    report_starts,
    run,
)
from sqlalchemy import Engine, text

sys.path.insert(0, str(Path(__file__).parents[1]))

from service.database.session import make_engine
from service.pages.static import static_files
from tests.support.browser import ARGUMENTS, chromium, missing

HTML = {"Accept": "text/html"}
LARGE = "large"
"""The SAE that has as many features as all others together."""
ROUNDS = 5


def add_large(engine: Engine, copies: int, features: int) -> None:
    """An SAE whose features are those of ``sae-0``, so many times over."""
    with engine.begin() as connection:
        names = connection.execute(
            text(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'features'"
                " AND is_generated = 'NEVER'"
            )
        ).scalars()
        kept = [name for name in names if name not in ("sae_id", "index", "id")]
        columns = ", ".join(f'"{name}"' for name in kept)
        sae_names = connection.execute(
            text(
                "SELECT column_name FROM information_schema.columns WHERE table_name = 'saes'"
                " AND is_generated = 'NEVER'"
            )
        ).scalars()
        others = ", ".join(f'"{n}"' for n in sae_names if n not in ("id", "name", "d_sae"))
        connection.execute(
            text(
                f"INSERT INTO saes (id, name, d_sae, {others})"
                f" SELECT gen_random_uuid(), '{LARGE}', {copies * features}, {others}"
                " FROM saes WHERE name = 'sae-0'"
            )
        )
        connection.execute(
            text(
                f"INSERT INTO features (sae_id, index, {columns})"
                f" SELECT (SELECT id FROM saes WHERE name = '{LARGE}'),"
                f" index + {features} * copy, {columns} FROM features,"
                f" generate_series(0, {copies - 1}) copy"
                " WHERE sae_id = (SELECT id FROM saes WHERE name = 'sae-0')"
            )
        )
        connection.execute(text("ANALYZE"))


# -------------------------------------------------------------------- the load
LOADS: tuple[Load, ...] = (
    ("bare", 1.0, "bare route (/healthz)", ""),
    ("rest", 1.0, "feature by REST", ""),
    ("feature", 1.0, "feature page", "p50 15, p99 50"),
    ("table", 0.2, "table of 100,000 features, any sort", "p99 100"),
    ("sae", 0.2, "page of an SAE", ""),
)


def work(options: argparse.Namespace) -> None:
    """One kind of load, in this process; prints its figures as JSON."""
    saes, features = options.saes, options.features

    def bare(_: random.Random) -> str:
        return "/healthz"

    def feature(chance: random.Random) -> str:
        return f"/saes/sae-{chance.randrange(saes)}/features/{chance.randrange(features)}"

    def rest(chance: random.Random) -> str:
        return f"/api/v1{feature(chance)}"

    def table(chance: random.Random) -> str:
        sort = chance.choice(("index", "density", "max_activation", "score"))
        return f"/saes/{LARGE}/features?sort={sort}&order={chance.choice(('asc', 'desc'))}"

    def sae(chance: random.Random) -> str:
        return f"/saes/sae-{chance.randrange(saes)}"

    kinds = {"bare": bare, "rest": rest, "feature": feature, "table": table, "sae": sae}
    put_load(options, kinds[options.load])


# -------------------------------------------------------------------- bytes
def sizes(url: str, report: Report) -> None:
    pages = {"feature page": "/saes/sae-0/features/0", "table": f"/saes/{LARGE}/features"}
    for name, path in pages.items():
        html = httpx.get(url + path, headers=HTML, trust_env=False).raise_for_status().content
        raw, packed = len(html) / 1000, len(gzip.compress(html)) / 1000
        shown = f"{raw:.1f} kB, {packed:.1f} compressed"
        report.row(f"HTML of the {name}", raw, "kB", "60, 15", shown)
    packed_files = {name: len(gzip.compress(body)) / 1000 for name, body in static_files().items()}
    report.row("style of all pages, compressed", packed_files["base.css"], "kB", "15 raw")
    columns = httpx.get(
        f"{url}/api/v1/saes/{LARGE}/columns", timeout=60.0, trust_env=False
    ).raise_for_status()
    report.row("columns of 100,000 features", len(columns.content) / 1e6, "MB", "2.5")


# -------------------------------------------------------------------- the browser
_FIRST_PAINT = """() => new Promise((resolve) => {
  new PerformanceObserver((list) => {
    const entry = list.getEntriesByName("first-contentful-paint")[0];
    if (entry) resolve(entry.startTime);
  }).observe({ type: "paint", buffered: true });
})"""
_MARKED = """(name) => performance.getEntriesByName(name, "measure").map((each) => each.duration)"""


def in_browser(url: str, report: Report) -> None:
    why = missing()
    if why is not None:
        print(f"no browser: {why}; first paint, script and map are not measured")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        paints, scripts, nodes = [], 0.0, 0
        for _ in range(ROUNDS):
            context = browser.new_context()
            page = context.new_page()
            loaded: list[str] = []
            page.on("request", lambda request, loaded=loaded: loaded.append(request.url))
            page.goto(f"{url}/saes/sae-0/features/0")
            paints.append(page.evaluate(_FIRST_PAINT))
            page.wait_for_load_state("networkidle")
            scripts = sum(_packed(each) for each in loaded if each.endswith(".js"))
            nodes = page.evaluate("document.querySelectorAll('*').length")
            context.close()
        _times(report, "first paint of the feature page", paints, "300")
        report.row("script of the feature page", scripts / 1000, "kB, compressed", "25")
        report.row("elements of the feature page", nodes, "", "1,500", f"{nodes:,}")
        _map(browser, url, report)
        browser.close()


def _map(browser: Any, url: str, report: Report) -> None:
    first, again = [], []
    for _ in range(ROUNDS):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/saes/{LARGE}/map")
        _wait_for_mark(page, "scatter")
        for _ in range(3):  # nearer and farther
            page.keyboard.press("+")
            page.keyboard.press("-")
        drawn = page.evaluate(_MARKED, "scatter")  # every drawing, as lib/scatter.js measures it
        first, again = [*first, drawn[0]], [*again, *drawn[1:]]
        context.close()
    _times(report, "map of 100,000: first drawing", first, "100")
    _times(report, "map of 100,000: drawn again", again, "16")


def _wait_for_mark(page: Any, name: str, seconds: float = 30.0) -> None:
    """Asked again and again: ``wait_for_function`` evaluates text, which the pages' policy
    forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(_MARKED, name):
        if time.monotonic() > end:
            raise TimeoutError(f"{name} was not marked within {seconds:.0f} s")
        page.wait_for_timeout(50)


def _times(report: Report, name: str, values: list[float], wanted: str) -> None:
    if not values:
        print(f"{name}: nothing was measured")
        return
    middle = statistics.median(values)
    shown = f"{middle:.0f} ms ({min(values):.0f} to {max(values):.0f}, n = {len(values)})"
    report.row(name, middle, "ms", wanted, shown)


def _packed(url: str) -> int:
    return len(gzip.compress(httpx.get(url, trust_env=False).content))


def main() -> None:
    run(options_of(__doc__, seconds=10.0, rate=50.0), work, measure)


def measure(options: argparse.Namespace, folder: Path, database_url: str) -> None:
    engine = make_engine(database_url)
    fill(engine, folder, options.saes, options.features)
    add_large(engine, options.saes, options.features)
    engine.dispose()
    count = f"{options.saes * options.features:,} features and one SAE of as many"
    print(f"{count}; {machine()}")
    report = Report(count, options.json)
    report_starts(database_url, folder, report)
    api = Api(database_url, folder)
    report_loads(__file__, LOADS, options, api.url, report)
    sizes(api.url, report)
    in_browser(api.url, report)
    report.row("memory of the API after that", api.mib(), "MiB")
    api.stop()


if __name__ == "__main__":
    main()
