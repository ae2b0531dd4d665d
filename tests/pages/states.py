"""Every state in which a page can be seen, as data: the campaign of ``test_every_state`` looks at
each.  A new page, or a new state of one, is a line here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from monosemy.specs import KINDS
from tests.pages.addresses import ADDRESSES
from tests.pages.answers import PROMPT, SETS, TEXT
from tests.pages.fragments import fragment
from tests.support.benchmark_rows import ODD_PROTOCOL, PROTOCOL
from tests.support.circuit_rows import CIRCUIT
from tests.support.feature_circuit_rows import CIRCUIT as FEATURE_CIRCUIT
from tests.support.graph_rows import (
    FEEDING_NODE,
    GOAL_NODE,
    GRAPH,
    PARAPHRASED,
    PARAPHRASES,
    SERVED,
    STEERABLE,
    UPLOADED,
)
from tests.support.hostile_rows import NAME, ODD_HEADS, ODD_STREAM
from tests.support.run_rows import AGAIN, CANCELLING, FAILED, QUEUED
from tests.support.scored_rows import GOOD

NOBODY = uuid.UUID(int=99)
"""Names nothing."""


@dataclass(frozen=True)
class State:
    """A page as it is in one world (``worlds.py``)."""

    path: str
    """``{name}`` stands for what the world has of that name."""
    says: str = ""
    """Words on the page by which the state is known."""
    status: int = 200
    act: Callable[[Any], None] | None = None
    """What somebody does there; it ends when what it leads to is seen."""

    def __str__(self) -> str:
        done = f" {self.act.__name__}" if self.act else ""
        return f"{self.path}{done}".replace("::", ":")[:120]


def refused(status: int, *paths: str) -> list[State]:
    return [State(path, status=status) for path in paths]


# ------------------------------------------------------------------ what somebody does
def asks_for_keys(page: Any) -> None:
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()


def looks_at_a_token(page: Any) -> None:
    page.locator(".examples mark").first.focus()
    page.locator("#token").wait_for()


def writes_on_a_feature(page: Any) -> None:
    page.keyboard.press("w")
    page.locator("#own").wait_for()


def misspells_a_tag(page: Any) -> None:
    page.get_by_label("New tag").fill("<b>")
    page.keyboard.press("Enter")
    page.locator("#tag-form .error").wait_for()


def tries_it_on_a_text(page: Any) -> None:
    page.get_by_label("Where does it fire?").fill(TEXT)
    page.locator("#test-form").get_by_role("button", name="Read").click()
    page.locator("#test-form .result mark, #test-form .error").first.wait_for()


def chooses_rows(page: Any) -> None:
    for key in ("j", "x", "j", "x"):
        page.keyboard.press(key)
    page.locator("#chosen", has_text="2 chosen").wait_for()


def is_asked_for_a_tag(page: Any) -> None:
    chooses_rows(page)
    page.locator("[data-bulk=tag]").click()
    page.get_by_role("dialog").wait_for()


def draws_the_map(page: Any) -> None:
    page.locator("#drawn", has_text="drawn").wait_for()


def finds_on_the_map(page: Any) -> None:
    draws_the_map(page)
    page.locator("#find input").fill("13")
    page.keyboard.press("Enter")
    page.locator("[data-looked]", has_text="Feature 13").wait_for()


def chooses_on_the_map(page: Any) -> None:
    draws_the_map(page)
    page.get_by_role("button", name="Choose what is in view").click()
    page.locator("#chosen-count").wait_for()
    page.locator("#chosen").get_by_role("button", name="Add to a list").click()
    page.get_by_role("dialog").wait_for()


def reads(page: Any) -> None:
    page.locator(".here").wait_for()


def chats(page: Any) -> None:
    page.get_by_label("chat").check()
    page.get_by_label("What is said").wait_for()


def is_told_to_wait(page: Any) -> None:
    page.get_by_text("Trying again in").first.wait_for()


def steers(page: Any) -> None:
    page.get_by_role("button", name="Write").click()
    page.get_by_text("All is written.").wait_for()
    page.get_by_label("With, seed 0", exact=True).locator("span").first.hover()


def steers_in_vain(page: Any) -> None:
    page.get_by_role("button", name="Write").click()
    is_told_to_wait(page)


def contrasts(page: Any) -> None:
    page.locator("[data-found] table").first.wait_for()


def attends(page: Any) -> None:
    page.locator("[data-feature] .steps").wait_for()
    while (closed := page.locator("[data-feature] button[aria-expanded=false]")).count():
        closed.first.click()


def asks_why(page: Any) -> None:
    attends(page)
    page.locator("table.cells button").first.click()
    page.locator(".pair .picture").wait_for()


def asks_why_of_no_head(page: Any) -> None:
    page.locator("#pair-head-error", has_text="heads 0 to").wait_for()


def contrasts_few(page: Any) -> None:
    page.get_by_label("Texts that have it").fill("a king")
    page.get_by_label("Texts like them that lack it").fill("a cat")
    page.locator("[data-few]").wait_for()


def sees_every_field(page: Any) -> None:
    page.locator("#fields[data-ready]").wait_for()
    page.locator("#fields details").evaluate_all(
        "all => { for (const each of all) each.open = true; }"
    )


def makes_faults(page: Any) -> None:
    sees_every_field(page)
    page.locator("#text").fill("kind: train\ntraining: {token: 5, seed: 0.5}\n")
    page.locator(".fault").first.wait_for()


def moves_an_entry(page: Any) -> None:
    page.keyboard.press("j")
    page.keyboard.press("n")


def renames_a_list(page: Any) -> None:
    page.keyboard.press("e")
    page.locator("#editor").wait_for()


def is_asked_whether_to_delete(page: Any) -> None:
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("dialog").wait_for()


def uploads_nothing(page: Any) -> None:
    page.get_by_role("button", name="Upload").click()
    page.locator("#said", has_text="Choose the files first").wait_for()


def types_another_name(page: Any) -> None:
    page.get_by_label("Its name, to be sure").fill("demo?")
    page.get_by_role("button", name="Delete it").click()
    page.get_by_text("nothing was deleted").wait_for()


def shows_a_wrong_key(page: Any) -> None:
    page.get_by_label("API key").fill("mnsy_wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").first.wait_for()


def makes_a_key_badly(page: Any) -> None:
    page.get_by_label("Name: who").fill("a/b")
    page.get_by_label("Days until").fill("many")
    page.get_by_role("button", name="Make the key").click()
    page.locator("#days-error").wait_for()


def draws_a_graph(page: Any) -> None:
    page.locator("#said", has_text="edges").wait_for()


def shows_a_node(page: Any) -> None:
    """The graph's status line is then the node's."""
    page.locator("#said", has_text="influence").wait_for()


def pins_nodes(page: Any) -> None:
    draws_a_graph(page)
    page.locator("#plot").focus()
    for key in ("Home", "Enter", "Shift+ArrowUp", "Enter", "Shift+ArrowUp", "Enter"):
        page.keyboard.press(key)
    page.locator("[data-subgraph] svg").wait_for()
    page.locator("#node[data-shown]").wait_for()


def groups_pins(page: Any) -> None:
    pins_nodes(page)
    page.keyboard.press("G")
    page.get_by_role("dialog").wait_for()


def changes_features(page: Any) -> None:
    pins_nodes(page)
    page.get_by_role("button", name="Change them in this prompt").click()
    page.locator("#steering").get_by_role("button", name="Run the prompt").click()
    page.locator("#steering table").first.wait_for()


def asks_for_heads(page: Any) -> None:
    part = page.locator("#heads[open]")
    part.get_by_role("button", name="Which heads carry it").click()
    part.locator("[data-heads] table").first.wait_for()
    part.get_by_role("button", name="Why it looks there").click()
    part.locator("[data-score] table").first.wait_for()
    part.locator("[data-score] summary").click()


def asks_for_heads_in_vain(page: Any) -> None:
    page.locator("#heads").get_by_role("button", name="Why it looks there").click()
    page.locator("#heads .failed").wait_for()


def changes_features_in_vain(page: Any) -> None:
    draws_a_graph(page)
    page.locator("#steering").get_by_role("button", name="Run the prompt").click()
    page.locator("#steering .failed").wait_for()


# ------------------------------------------------------------------ by world
_FEATURE = f"/saes/demo/features/{GOOD}"
_TEXT, _PROMPT, _SETS = (fragment(each) for each in ({"text": TEXT}, PROMPT, SETS))
_ODD = quote(NAME)
_OWN = (
    *("/", "/saes", "/runs", "/lists", "/tags", "/comparisons", "/tasks", "/circuits", "/models"),
    *("/leaderboards", "/benchmarks"),
    "/graphs",
    *("/concepts", "/sets", "/spend", "/health"),
)
_WORK = (
    "/label",
    "/agreement",
    "/search",
    "/search?q=king",
    "/try",
    "/steer",
    "/contrast",
    "/attention",
)

ERRORS = [
    *refused(404, "/nothing-here", "/saes/none", "/saes/demo/features/60", f"/runs/{NOBODY}"),
    *refused(404, "/lists/none", f"/comparisons/{NOBODY}", "/prompts/none", "/search?q=a&sae=none"),
    *refused(404, f"/tasks/{NOBODY}", "/tasks?sae=none"),
    *refused(404, f"/benchmarks/{NOBODY}", "/benchmarks?sae=none", "/leaderboards/none"),
    *refused(404, "/leaderboards?model=none"),
    *refused(422, f"/leaderboards/{PROTOCOL}?metric=f1", f"/leaderboards/{PROTOCOL}?against=raw2"),
    *refused(
        404,
        f"/circuits/{NOBODY}",
        "/sets/none",
        "/sets/none/delete",
        "/graphs/none",
        *(f"/{each}?model=none" for each in ("saes", "sets", "circuits", "graphs")),
        f"/graphs/{GRAPH}/nodes/9999",
    ),
    *refused(
        422,
        "/graphs/common",
        f"/graphs/common?run={PARAPHRASED}&least=4",
        f"/graphs/common?graph={PARAPHRASES[0]}&graph={UPLOADED}",
    ),
    *refused(409, f"/graphs/common?graph={PARAPHRASES[0]}&graph={GRAPH}"),
    *refused(422, f"/graphs/{GRAPH}?nodes=0", f"/graphs/{GRAPH}?kind=neuron"),
    *refused(404, "/concepts/none", "/concepts?sae=none"),
    *refused(422, "/saes/demo/features?scorer=none"),
    *refused(409, "/saes/demo/features?head=99"),
    *refused(422, f"/circuits/{CIRCUIT}?head=99.0", f"/circuits/{CIRCUIT}?head=first"),
    *refused(422, "/runs?state=odd", f"{_FEATURE}?view=sideways", "/saes/demo/map?x=label"),
    *refused(422, "/saes/demo/features?min_density=0.5&max_density=0.1", "/label?list=a&sae=b"),
    State(f"/models?colour=red&{'x' * 90}=1", "This page does not know"),
    *refused(422, "/attention?sae=demo", "/attention?sae=heads&residual=none"),
]
ACTS = [
    State("/models", act=asks_for_keys),
    *(
        State(_FEATURE, act=act)
        for act in (looks_at_a_token, writes_on_a_feature, misspells_a_tag, tries_it_on_a_text)
    ),
    State("/saes/demo/features", act=chooses_rows),
    State("/saes/demo/features", act=is_asked_for_a_tag),
    State("/saes/demo/map?q=king", act=finds_on_the_map),
    State("/saes/demo/map?x=score&y=mean&colour=explained", act=chooses_on_the_map),
    *(
        State(f"/try?sae=demo&pin=13&colour={colour}#t={_TEXT}", act=reads)
        for colour in ("strongest", "pinned", "count", "unexplained")
    ),
    State("/try?sae=demo", act=chats),
    State(f"/steer?sae=demo&f=13=1&f=8=-2=clamp&f=7=2&seeds=2#p={_PROMPT}", act=steers),
    State(f"/steer?sae=demo&f=13=1&where=tokens&text=%20the&kind=newline#p={_PROMPT}", act=steers),
    State("/steer?sae=demo&f=99=1&f=<b>&f=5=2=twist", "99 is none of them"),
    State(f"/contrast?sae=demo#s={_SETS}", act=contrasts),
    State("/contrast?sae=demo", act=contrasts_few),
    *(
        State(f"/attention?sae=heads&residual=demo#t={_TEXT}", act=act)
        for act in (attends, asks_why)
    ),
    State("/saes/heads/heads"),
    State(f"/graphs/{GRAPH}", act=draws_a_graph),
    State(f"/graphs/{SERVED}?nodes=0.6", act=pins_nodes),
    State(f"/graphs/{SERVED}", act=groups_pins),
    State(f"/graphs/{STEERABLE}", act=changes_features),
    State(
        f"/graphs/{STEERABLE}/nodes/{GOAL_NODE}?heads={FEEDING_NODE}-{GOAL_NODE}&score=1.2.4.2",
        act=asks_for_heads,
    ),
    State(f"/graphs/{FEATURE_CIRCUIT}", act=pins_nodes),
    State(f"/graphs/{FEATURE_CIRCUIT}", act=groups_pins),
    State(f"/graphs/{FEATURE_CIRCUIT}?node=0&pinned=0,3&groups=names:1,2", act=shows_a_node),
    State(f"/attention?sae=heads&residual=demo&pair=99.2.0#t={_TEXT}", act=asks_why_of_no_head),
    *(State(f"/runs/new?kind={kind}", act=sees_every_field) for kind in KINDS),
    State("/runs/new?kind=train", act=makes_faults),
    State("/runs/new?kind=no&set=nonsense", "no kind of run"),
    State("/lists/royalty", act=moves_an_entry),
    State("/lists/royalty", act=renames_a_list),
    State("/lists/royalty", act=is_asked_whether_to_delete),
    State("/saes/upload", act=uploads_nothing),
    State("/saes/demo/delete", act=types_another_name),
    *(
        State(f"/embed{_FEATURE}?theme={theme}&parts=explanation&parts=examples&parts=writes")
        for theme in ("light", "dark")
    ),
    State("/embed/saes/demo/features/10"),
]
SPARSE = [
    *(
        State(f"/saes/{sae}{part}")
        for sae in ("unindexed", "unlabelled", "unscored")
        for part in ("", "/features", "/map", "/report", "/training", "/provenance", "/features/0")
    ),
    State("/saes/unlabelled", "No feature is explained yet"),
    State("/saes/unscored", "none scored"),
    State("/search?q=zzzzqqqq&sae=unlabelled&max_density=0.5", "No feature was found"),
    State("/label?sae=unscored&mode=judge"),
    State("/label?sae=unlabelled&mode=vote"),
    *(State(f"/runs/{run}") for run in (QUEUED, FAILED, CANCELLING, AGAIN)),
    State("/runs/{plugin}"),
    State("/runs/{partly}"),
    State("/runs/new?from={plugin}", "no kind of run"),
    State("/", "is paused"),
    State("/health"),
]
HOSTILE = [
    *(
        State(f"/saes/{_ODD}{part}")
        for part in (
            *("", "/features", "/features?sort=score&q=bold", "/map", "/report", "/training"),
            *("/provenance", "/delete", "/features/0", "/features/1"),
            "/features/0?view=wrapped&context=row&breaks=true",
            "/features/0/scores/{score}",
            "/features/0/explanations/{explanation}",
        )
    ),
    State(f"/embed/saes/{_ODD}/features/0"),
    State("/lists/{odd_list}"),
    State("/tasks/{odd_task}"),
    State(f"/benchmarks?sae={_ODD}"),
    State("/benchmarks/{odd_result}"),
    State(f"/leaderboards/{ODD_PROTOCOL}"),
    State("/runs/{half_measured}"),
    State(f"/sets/{_ODD}"),
    State("/concepts/{odd_concept}"),
    State("/circuits/{odd_circuit}"),
    State("/circuits/{odd_circuit}?head=4.1"),
    State("/graphs?search=bold"),
    State("/graphs/{odd_graph}?groups=%3Cb%3E:0,1&pinned=2,3", act=pins_nodes),
    State("/graphs/{odd_graph}/nodes/0"),
    State(f"/saes/{quote(ODD_HEADS)}/heads"),
    *(
        State(f"/attention?sae={quote(ODD_HEADS)}&residual={quote(ODD_STREAM)}#t={_TEXT}", act=act)
        for act in (attends, asks_why)
    ),
    State("/lists"),
    State(f"/tags?sae={_ODD}"),
    State("/search?q=bold"),
    State("/label?list={odd_list}&mode=vote"),
    State("/label?list={odd_list}&mode=judge"),
    State(f"/try?sae={_ODD}"),
    State(f"/steer?sae={_ODD}&f=0=1"),
    State(f"/contrast?sae={_ODD}"),
    State("/runs/{odd}"),
    State("/runs/{odd}/log"),
    State("/runs/new?from={odd}"),
    *(State(path) for path in _OWN),
]
EMPTY = [
    *(State(path) for path in (*_OWN, *_WORK)),
    *(State(path) for path in ("/runs/new", "/settings/audit", "/settings/keys", "/saes/upload")),
]
_USUAL = [path for path in ADDRESSES if path not in ("/nothing-here", "/settings/audit")]

STATES: dict[str, list[State]] = {
    "library": [*map(State, _USUAL), State("/settings/audit"), *ERRORS, *ACTS],
    "strange": [*SPARSE, *HOSTILE],
    "empty": EMPTY,
    "no inference": [
        State("/search?q=king", "not by meaning"),
        State(f"/try?sae=demo#t={_TEXT}", act=is_told_to_wait),
        State(f"/steer?sae=demo&f=13=1#p={_PROMPT}", act=steers_in_vain),
        State(f"/graphs/{STEERABLE}?edit=0:ablate", act=changes_features_in_vain),
        State(f"/graphs/{STEERABLE}/nodes/0?score=1.2.4.2", act=asks_for_heads_in_vain),
        State(f"/contrast?sae=demo#s={_SETS}", act=is_told_to_wait),
        State(f"/attention?sae=heads#t={_TEXT}", act=is_told_to_wait),
        State(_FEATURE, act=tries_it_on_a_text),
    ],
    "no database": refused(503, "/", "/saes/demo", _FEATURE, "/runs"),
    "nobody": [
        State("/", "Log in"),
        State("/login?next=/saes/demo"),
        State("/login", act=shows_a_wrong_key),
        *refused(404, "/nothing-here", f"/embed{_FEATURE}"),
    ],
    "session that ended": [State("/saes/demo", "Log in"), State("/nothing-here", status=404)],
    "read only": [
        *map(State, _USUAL),
        State("/settings/audit", "admin", status=403),
        State("/nothing-here", status=404),
    ],
    "administrator": [
        *(State(path) for path in ("/", "/health", "/settings/audit", "/settings/keys")),
        State("/settings/keys", act=makes_a_key_badly),
        State("/settings/keys/{key}/revoke"),
        State(f"/runs/{FAILED}"),
        *refused(404, "/nothing-here"),
    ],
}
"""By world."""
