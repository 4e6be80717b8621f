"""The page: whole, self-contained, escaped and described; and the picture alone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import altair as alt
import polars as pl
import pytest
from click.testing import CliRunner

from responses_db.errors import LabError
from tests.xrouter_sim.fake_run import edited, write_fake_run
from xrouter_sim.cli import main
from xrouter_sim.evaluation.labels import Anchor, place
from xrouter_sim.evaluation.report import save_picture, write_report

ONE_OF_EACH = {"rewards1", "behaviours1", "robustness1", "training1-0"}
VOID = {"meta", "link", "br", "wbr", "img"}


class Page(HTMLParser):
    """What a reader's machine makes of the page: tags, attributes, visible text, and whether tags close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_run(tmp_path_factory.mktemp("runs") / "fake", queries=30, name="<i>fake</i>")


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    out = folder.parent / "pages" / "report.html"
    result = CliRunner().invoke(main, ["report", str(folder), "--out", str(out), "--replicates", "100"])
    assert result.exit_code == 0, result.output
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_tag_closes_and_the_answer_comes_first(page: Page) -> None:
    assert page.open == []
    assert page.text.index("The answer") < page.text.index("SIMULATED") < page.text.index("Routers compared")
    assert "λ=1" in page.text


def test_nothing_is_fetched(html: str, page: Page) -> None:
    for tag, attributes in page.tags:
        links = [attributes.get(name) or "" for name in ("src", "href")]
        assert all(link.startswith(("#", "data:")) for link in links if link), (tag, attributes)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(meta for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_names_from_data_are_text_and_never_markup(page: Page) -> None:
    assert not page.all("b")
    assert not page.all("i")
    assert "always:<b>grand</b>" in page.text.replace("\n", "")
    assert "<i>fake</i>" in page.text


def test_every_chart_is_described_and_parses(html: str, page: Page) -> None:
    boxes = {box["id"]: box for box in page.all("div") if box.get("class") == "vega"}
    specs = re.findall(r'<script type="application/json" data-chart="([^"]+)">(.*?)</script>', html, re.DOTALL)
    assert {name for name, _ in specs} == set(boxes)
    assert len(boxes) == 4 + 1 + 6  # four of the routers, one of robustness, six of training
    for name, text in specs:
        spec = json.loads(text)
        assert spec["width"] == "container"
        assert len(spec["description"]) > 20
        if name in ONE_OF_EACH:
            alt.LayerChart.from_dict(spec) if "layer" in spec else alt.Chart.from_dict(spec)  # checks the schema
        assert boxes[name]["aria-label"] == spec["description"]
        assert boxes[name]["role"] == "img"


def test_tables_have_captions_and_scroll_in_boxes_of_their_own(page: Page) -> None:
    assert len(page.all("table")) == len(page.all("caption")) == 7
    scrolling = [box for box in page.all("div") if box.get("class") == "scroll"]
    assert len(scrolling) == 7
    assert all(box.get("tabindex") == "0" and box.get("aria-label") for box in scrolling)
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))


def test_the_metrics_of_the_field_come_with_a_sentence_each(page: Page) -> None:
    assert "Metrics of the field" in page.text
    assert len(page.all("dt")) == len(page.all("dd")) >= 10
    for name in ("arena score", "Opt. Sel", "PerfGain", "ParetoDist", "QNC", "selection entropy", "invalid actions"):
        assert page.text.count(name) >= 2, name  # a column's head, and what it says
    assert "luck-corrected oracle" in page.text
    assert "zero router" in page.text
    assert "best single model" in page.text


def test_what_a_run_lacks_is_said_in_its_table(tmp_path: Path) -> None:
    poorer = edited(
        write_fake_run(tmp_path / "poorer", queries=12), lambda rows: rows.filter(pl.col("router") != "knn")
    )
    write_report([poorer], tmp_path / "page.html", replicates=100)
    page = Page((tmp_path / "page.html").read_text())
    assert "kNN not in this run" in " ".join(page.text.split())


def test_a_run_that_leaves_costs_out_has_a_page_without_pictures_of_cost(tmp_path: Path) -> None:
    free = write_fake_run(tmp_path / "free", queries=12, settings=(0.0,))
    (free / "robustness.parquet").unlink()
    edited(free, lambda rows: rows.with_columns(cost_usd=pl.lit(None, pl.Float64)))
    facts = json.loads((free / "manifest.json").read_text())
    facts |= {"cost_unit_usd": None, "store": facts["store"] | {"costs": {"kind": "none"}}}
    (free / "manifest.json").write_text(json.dumps(facts))
    write_report([free], tmp_path / "page.html", replicates=100)
    text = (tmp_path / "page.html").read_text()
    assert re.search(r"\bnan\b", Page(text).text) is None
    assert 'id="frontier1"' not in text
    assert "Routers compared" in text
    with pytest.raises(LabError, match="leaves costs out"):
        save_picture(free, tmp_path / "frontier.svg")


def test_a_run_without_the_optional_files_has_a_shorter_page(folder: Path, tmp_path: Path) -> None:
    bare = write_fake_run(tmp_path / "bare", queries=12)
    for name in ("robustness.parquet", "training.parquet"):
        (bare / name).unlink()
    out = tmp_path / "both.html"
    result = CliRunner().invoke(main, ["report", str(folder), str(bare), "--out", str(out), "--replicates", "100"])
    assert result.exit_code == 0, result.output
    page = Page(out.read_text(encoding="utf-8"))
    assert "Runs side by side" in page.text
    assert "not comparable in pairs" in page.text
    assert page.text.count("When prices move and calls fail") == 1
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_the_picture_is_saved_alone(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "docs" / "frontier.svg"
    result = CliRunner().invoke(main, ["report", str(folder), "--picture", str(picture)])
    assert result.exit_code == 0, result.output
    drawn = picture.read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "oracle" in drawn
    save_picture(folder, tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(LabError, match=r"ends in \.svg or \.png"):
        save_picture(folder, tmp_path / "frontier.gif")


def test_report_asks_where_to_write(folder: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(folder)])
    assert result.exit_code == 2
    assert "--out report.html" in result.output


def test_labels_keep_clear_of_points_and_of_each_other() -> None:
    crowd = [(50.0 + dx, 50.0) for dx in range(0, 60, 5)]
    (placed,) = place([Anchor("word", [(50.0, 50.0)])], crowd[1:], (200.0, 100.0))
    assert placed.side == "left"
    assert place([Anchor("far too long for this plot", [(50.0, 50.0)])], [], (100.0, 100.0)) == []
