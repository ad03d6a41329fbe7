"""The graph of what was captured: tree, columns, SVG. Text of the notebook's stays text, whatever is in it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from nbserve.captured_graph import columns, edges, tree
from nbserve.explained import as_renderable
from nbserve.explained_html import as_html
from nbserve.explained_svg import MOST_NODES, graph_svg
from nbserve.explanation import Entry, Explanation, Skipped
from nbserve.tables import to_text

EVIL = "<script>alert(1)</script>\"'&"
SVG = "{http://www.w3.org/2000/svg}"
CHAINED = [
    Entry("Digits", "source", "In[4]", 10, ["Digits"], needs=["model", "scale", "np"]),
    Entry("scale", "source", "In[2]", 10, ["Digits", "scale"], needs=["np"]),
    Entry("np", "import", "In[1]", 0, ["Digits", "scale", "np"]),
    Entry("model", "value", "In[3]", 2_000_000, ["Digits", "model"], EVIL, needs=["Net"]),
    Entry("Net", "source", "In[2]", 10, ["Digits", "model", "Net"], needs=["Digits"]),
    Entry("pack/a.py", "module file", "a.py", 50, ["Digits", "pack"]),
]


def explanation(entries: list[Entry], **fields: object) -> Explanation:
    known = {"name": EVIL, "version": "1", "bundle": "b", "digest": "d" * 64, "proof": {}, "warnings": [EVIL]}
    return Explanation(entries=entries, **known | fields)  # type: ignore[arg-type]


def test_a_tree_shows_everything_once_with_what_it_needs() -> None:
    assert [(line.guide + line.entry.name, line.seen) for line in tree(CHAINED)] == [
        ("Digits", False),
        ("├─ scale", False),
        ("│  └─ np", False),
        ("├─ np", True),
        ("├─ model", False),
        ("│  └─ Net", False),
        ("│     └─ Digits", True),
        ("└─ pack/a.py", False),
    ]
    assert columns(CHAINED)[0] == ["Digits"]
    assert [set(column) for column in columns(CHAINED)[1:]] == [{"scale", "model", "pack/a.py"}, {"np", "Net"}]


def test_bundles_that_say_only_chains_have_those() -> None:
    chains = [
        Entry("f", "source", chain=["f"]),
        Entry("g", "source", chain=["f", "g"]),
        Entry("K", "source", chain=["f", "g", "K"]),
    ]
    assert edges(chains) == {"f": ["g"], "g": ["K"], "K": []}


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.lists(st.integers(0, 9), max_size=4), st.text(max_size=5)),
        max_size=12,
        unique_by=lambda each: each[0],
    )
)
def test_any_graph_is_drawn_whole_and_is_xml(made: list[tuple[int, list[int], str]]) -> None:
    entries = [
        Entry(f"n{number}", "source", note=note, needs=[f"n{other}" for other in needs]) for number, needs, note in made
    ]
    names = {entry.name for entry in entries}
    assert {line.entry.name for line in tree(entries)} == names
    assert sum(not line.seen for line in tree(entries)) == len(names)
    if entries:
        page = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", graph_svg(entries, "t", "k"))
        boxes = ElementTree.fromstring(page).iter(f"{SVG}rect")
        assert len(list(boxes)) == len({name for column in columns(entries) for name in column})


def test_the_graph_says_what_it_shows_without_colour_and_without_eyes() -> None:
    root = ElementTree.fromstring(graph_svg(CHAINED, "What it needs", "k1"))
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == "k1-t k1-d"
    words = {each.get("id"): each.text for each in root.iter() if each.get("id")}
    assert words["k1-t"] == "What it needs"
    assert "model (value) needs Net" in str(words["k1-d"])
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert "value, In[3], 2.0 MB" in texts
    assert len(list(root.iter(f"{SVG}path"))) == sum(map(len, edges(CHAINED).values()))
    style = str(next(root.iter(f"{SVG}style")).text)
    assert "prefers-color-scheme: dark" in style
    assert "stroke-dasharray" in style


def test_boxes_do_not_lie_on_each_other_and_are_inside() -> None:
    root = ElementTree.fromstring(graph_svg(CHAINED, "t", "k"))
    places = [
        tuple(float(rect.get(key, "")) for key in ("x", "y", "width", "height")) for rect in root.iter(f"{SVG}rect")
    ]
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    for index, (x, y, w, h) in enumerate(places):
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
        for x2, y2, w2, h2 in places[:index]:
            assert x + w <= x2 or x2 + w2 <= x or y + h <= y2 or y2 + h2 <= y


def test_a_large_graph_leaves_out_what_tells_least_and_says_so() -> None:
    names = [f"f{number}" for number in range(100)]
    many = [Entry("h", "source", chain=["h"], needs=[*names, "np"]), Entry("np", "import", chain=["h", "np"])]
    many += [Entry(name, "source", chain=["h", name]) for name in names]
    page = graph_svg(many, "t", "k")
    assert page.count("<rect") == MOST_NODES
    assert f"and {len(many) - MOST_NODES} more, in the table" in page
    assert ">np<" not in page


def test_nothing_of_the_notebooks_is_taken_for_html() -> None:
    page = as_html(explanation(CHAINED, skipped=[Skipped(EVIL, EVIL, EVIL)], changed=[EVIL], requirements=[EVIL]))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 6


def test_the_text_form_has_all_of_it() -> None:
    skipped = [Skipped(f"x{number}", "why") for number in range(20)]
    text = to_text(
        as_renderable(explanation(CHAINED, skipped=skipped, changed=["snapshot of 14:02; model"], imported=["lazy==1"]))
    )
    for part in (
        "└─ pack/a.py",
        "x11: why",
        "and 8 more (--json shows all)",
        "changed: snapshot of 14:02; model",
        EVIL,
    ):
        assert part in text
    assert "the sample run imported: lazy==1" in text
    assert "no notebook wrote it" in to_text(as_renderable(explanation([])))
