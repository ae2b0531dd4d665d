"""Pictures of the explorer's pages: ``python docs/pictures.py http://127.0.0.1:8420 OUT``.

With ``--readme`` only the picture of the README is made (docs/feature.png); else every page that
the running explorer has, light and dark, 1,440 and 390 pixels wide.  Needs Playwright, Chromium.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.browser import ARGUMENTS, chromium, missing  # noqa: E402

README_PICTURE = ROOT / "docs" / "feature.png"
MOST_BYTES = 200_000


_BEST = {"sort": "score", "order": "desc", "scorer": "embedding", "limit": 1}


def pages_of(address: str) -> dict[str, str]:
    """Name and path of each page worth a picture, by what the explorer has."""
    with httpx.Client(base_url=f"{address}/api/v1", timeout=30.0) as api:
        pages = {
            "home": "/",
            "saes": "/saes",
            "models": "/models",
            "try": "/try",
            "steer": "/steer",
            "contrast": "/contrast",
            "search": "/search?q=music",
            "runs": "/runs",
            "new-run": "/runs/new",
            "spend": "/spend",
            "health": "/health",
            "audit": "/settings/audit",
            "keys": "/settings/keys",
            "lists": "/lists",
            "tags": "/tags",
            "comparisons": "/comparisons",
            "agreement": "/agreement",
            "upload": "/saes/upload",
            "error": "/nothing-here",
        }
        for state in ("succeeded", "failed"):
            runs = api.get("/runs", params={"limit": 1, "state": state}).json()["items"]
            if runs:
                pages[f"run-{state}"] = f"/runs/{runs[0]['id']}"
                pages[f"run-{state}-log"] = f"/runs/{runs[0]['id']}/log"
        for kind in ("lists", "comparisons"):
            some = api.get(f"/{kind}", params={"limit": 1}).json()["items"]
            if some:
                pages[kind.removesuffix("s")] = f"/{kind}/{some[0].get('name', some[0].get('id'))}"
        saes = [sae for sae in api.get("/saes").json()["items"] if sae["index"]]
        if saes:
            sae = f"/saes/{saes[-1]['name']}"
            top = api.get(f"{sae}/features", params=_BEST)
            index = top.json()["items"][0]["index"]
            feature = f"{sae}/features/{index}"
            explanation = api.get(feature).json()["explanations"][0]
            pages |= {
                "sae": sae,
                "features": f"{sae}/features",
                "map": f"{sae}/map",
                "training": f"{sae}/training",
                "report": f"{sae}/report",
                "provenance": f"{sae}/provenance",
                "delete": f"{sae}/delete",
                "feature": feature,
                "explanation": f"{feature}/explanations/{explanation['id']}",
                "judgements": f"{feature}/scores/{explanation['scores'][0]['id']}",
                "embed": f"/embed{feature}",
                "label-write": f"/label?sae={saes[-1]['name']}",
                "label-vote": f"/label?sae={saes[-1]['name']}&mode=vote",
                "label-judge": f"/label?sae={saes[-1]['name']}&mode=judge",
            }
    return pages


def take(browser: Any, url: str, out: Path, width: int, scheme: str, whole: bool = True) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 900 if whole else 680},
        color_scheme=scheme,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(url)
    page.wait_for_timeout(600)
    page.screenshot(path=str(out), full_page=whole)
    context.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "docs")
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    why = missing()
    if why is not None:
        sys.stderr.write(f"{why}\n")
        return 1
    from playwright.sync_api import sync_playwright

    pages = pages_of(options.address)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        if options.readme:
            take(browser, options.address + pages["feature"], README_PICTURE, 1440, "light", False)
            size = README_PICTURE.stat().st_size
            if size > MOST_BYTES:
                sys.stderr.write(f"{README_PICTURE} has {size:,} bytes, above {MOST_BYTES:,}\n")
                return 1
        else:
            options.out.mkdir(parents=True, exist_ok=True)
            for name, path in pages.items():
                if options.only and name not in options.only:
                    continue
                for width in (1440, 390):
                    for scheme in ("light", "dark"):
                        file = options.out / f"{name}-{width}-{scheme}.png"
                        take(browser, options.address + path, file, width, scheme)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
