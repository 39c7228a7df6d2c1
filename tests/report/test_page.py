import csv
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steeldefect.report import page
from steeldefect.report.arms import Arms, groups
from steeldefect.report.collect import Collection, collect
from steeldefect.report.contrasts import contrast_tables
from steeldefect.report.multipliers import read_costs
from steeldefect.report.page_pictures import gallery
from steeldefect.report.page_tables import headline
from steeldefect.report.provenance import Shown
from steeldefect.report.tables import table2, table3
from tests.report.make_fixture import CLASSES, EXPECTED, FIXTURE, GRID
from tests.report.test_report import GROUP

PATIENCE = 180_000  # milliseconds: a busy machine takes its time to read plotly
PLANTED = "<script>planted()</script>"


class Reader(HTMLParser):
    """What the file says, without a browser: tables as text, anchors, links, scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.cells: list[list[str]] = []  # the record ids of each figure that leads to some
        self.sources: list[str] = []
        self.scripts = 0
        self.unnamed: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.ids += [of["id"]] if "id" in of else []
        self.sources += [of[key] for key in ("src", "href") if key in of and not of[key].startswith("#")]
        self.scripts += tag == "script" and of.get("type") != "application/json"
        if "data-cells" in of:
            assert of["href"] == f"#cell-{of['data-cells'].split()[0]}"
            self.cells.append(of["data-cells"].split())
        if (tag == "img" and not of.get("alt")) or (of.get("role") in ("img", "region") and not of.get("aria-label")):
            self.unnamed.append(str(of))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "td" in self._open or "th" in self._open:
            row = self.tables[-1][-1]
            row[-1] = " ".join(f"{row[-1]} {data}".split())


def write(collection: Collection, output: Path, artifacts: Path | None = None, study: str | None = "table3") -> Path:
    arms = Arms(collection, GROUP)
    shown: list[Shown] = [
        table3(arms, GRID.table3_classifiers, GRID.table3_mixes),
        table2(arms, GRID.table2_mixes),
    ]
    output.mkdir(parents=True, exist_ok=True)
    where = artifacts or output / "none"
    costs = read_costs(where / "cost.csv")
    return page.write_page(output, where, costs, collection, [arms], {GROUP: shown}, [], study, "*n*: runs")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write(collect(FIXTURE), tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def read(written) -> Reader:
    return Reader(written.read_text())


def test_one_file_of_a_mail_and_no_network(written, read):
    text = written.read_text()
    assert len(text.encode()) < page.LIMIT
    assert read.sources == [] and read.scripts == 2
    assert "default-src 'none'" in text and text.count("plotly.js v") == 1
    assert read.unnamed == [] and len(read.ids) == len(set(read.ids))


def test_its_tables_are_the_committed_ones(read):
    """Each figure of expected/table3.csv and table2.csv, beside the paper's."""
    for name, number in (("table3", 0), ("table2", 1)):
        head, *rows = read.tables[number]
        with (EXPECTED / f"{name}.csv").open() as file:
            expected = [row for row in csv.DictReader(file) if row["metric"] == "mean_pr"]
        assert len(expected) == sum(len(row) - 1 for row in rows) > 20
        found = {(row[0], column): text for row in rows for column, text in zip(head, row, strict=True)}
        for row in expected:
            text = found[row["row"], row["column"]]
            if row["status"] != "trained":
                assert text.startswith(row["status"])
            else:
                sign = "+" if " - " in row["column"] else ""
                assert text.split()[0] == f"{round(float(row['ours_percent']), 1):{sign}.1f}"
                assert f"n={row['n_runs']}" in text
            assert row["paper_percent"] in text


def test_every_figure_leads_to_its_records(written, read):
    known = {record["id"] for record in collect(FIXTURE).records}
    assert {name.removeprefix("cell-") for name in read.ids if name.startswith("cell-")} == known
    assert all(set(ids) <= known for ids in read.cells)
    arms = Arms(collect(FIXTURE), GROUP)
    own = table3(arms, ["mobilenet_v2"], ["org100", "org20"]).rows[0][1]
    assert own[1].records == ("000000000300", "000000000301")
    assert own[2].records == (*own[1].records, "000000000000", "000000000001")
    # what has no record leads nowhere
    assert table2(arms, ["org30"]).rows[0][1][0].records == ()
    content = re.search(r'id="cell-000000000300".*?<pre>(.*?)</pre>', written.read_text(), re.S)
    assert '"id": "000000000300"' in content[1].replace("&#34;", '"') and "/home" not in content[1]


def test_the_headline_comes_first(written):
    text = written.read_text()
    arms = Arms(collect(FIXTURE), GROUP)
    cell = dict(headline(arms))["mobilenet_v2"]
    # by hand: the mean over two replicates of the difference of the two accuracies
    by = {
        (r["mix"], r["replicate"]): r["metrics"]["accuracy"] for r in arms.records if r["classifier"] == "mobilenet_v2"
    }
    mean = np.mean([by["org20", r] - by["org100", r] for r in (0, 1)])
    assert cell.text == f"{100 * mean:+.1f}" and re.match(r"\[[-+][\d.]+, [-+][\d.]+\] n=2", cell.rest)
    assert text.index(cell.rest) < text.index("<table")
    assert dict(headline(arms))["vgg16"].text == "not trained"


def test_the_answer_leads_for_any_generator():
    found = collect(FIXTURE / "controls")
    found.records[:] = [r | ({"gan": "stylegan3"} if r["gan"] == "edcgan" else {}) for r in found.records]
    tables = contrast_tables([Arms(found, group) for group in groups(found.records)])
    (heading, said, view), *_ = page._verdicts({table.group: [table] for table in tables if table.said}, found.records)
    assert "gan=stylegan3" in heading and "**helps**" in said
    assert [row[1].text for row in view.rows] == ["org20 - org100", "org20 - classical"]
    assert all(row[2].text.startswith("+") for row in view.rows)


def test_names_are_escaped(tmp_path):
    """A class, a classifier and a mix that are HTML stay text: no script of theirs, and their JSON is whole."""
    found = collect(FIXTURE)
    for record in found.records:
        record["classes"] = [PLANTED, *CLASSES[1:]]
        if record["classifier"] == "resnet19":
            record["classifier"] = f"a{PLANTED}"
        if record["mix"] == "org75":
            record["mix"] = f"org{PLANTED}"
    text = write(found, tmp_path, study=PLANTED).read_text()
    read = Reader(text)
    assert "<script>planted" not in text and read.scripts == 2
    assert any(PLANTED in name for row in read.tables[1] for name in row)
    specs = re.findall(r'<script type="application/json" id="spec-share.*?">(.*?)</script>', text, re.S)
    names = [trace["name"] for trace in json.loads(specs[0])["data"]]
    assert "a&lt;script&gt;planted()&lt;/script&gt;" in names


def test_records_are_left_out_of_a_page_that_would_be_too_large(tmp_path, monkeypatch, caplog):
    whole = len(write(collect(FIXTURE), tmp_path).read_bytes())
    monkeypatch.setattr(page, "LIMIT", whole - 1)
    text = write(collect(FIXTURE), tmp_path).read_text()
    assert len(text.encode()) < whole - 24 * 1000 and "grep 000000000000 records.jsonl" in text
    assert "left out" in caplog.text


def bank(artifacts: Path, records: list[dict]) -> None:
    """Stripes as photographs; two synthetic images a class, the first a mirrored copy of the third training image."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 32, 32), dtype=np.uint8)
    labels = np.repeat(np.arange(6), 4)
    ids = next(record["ids"] for record in records if record["ids"]["bank"])
    for folder in ("cache", f"splits/{ids['split']}", f"banks/{ids['bank']}", f"gans/{ids['gan']}", "scenes/5ce"):
        (artifacts / folder).mkdir(parents=True)
    np.save(artifacts / "cache" / f"{ids['dataset']}.npy", images)
    rows = "".join(f"{CLASSES[label]}_{k},{CLASSES[label]},train,{k}\n" for k, label in enumerate(labels))
    (artifacts / "splits" / ids["split"] / "split.csv").write_text(f"image,class,part,scene\n{rows}")
    drawn = rng.integers(0, 256, (12, 32, 32), dtype=np.uint8)
    drawn[0] = images[2, :, ::-1]
    np.save(artifacts / "banks" / ids["bank"] / "images.npy", drawn)
    np.save(artifacts / "banks" / ids["bank"] / "labels.npy", np.arange(12) % 6)
    history = "epoch,loss_d,loss_g,accuracy_real,accuracy_fake\n0,1.5,0.5,0.5,0.25\n1,1.0,0.75,0.6,0.3\n"
    (artifacts / "gans" / ids["gan"] / "history.csv").write_text(history)
    quality = "epoch,class,kid,kid_floor,diversity,diversity_real\n1,all,0.5,0.1,3,9\n1,crazing,,,,\n2,all,0.25,,4,9\n"
    (artifacts / "gans" / ids["gan"] / "quality.csv").write_text(quality)
    found = {"identity": {"dataset": ids["dataset"]}, "summary": {"classes": [{"class": "crazing", "scenes": 17}]}}
    (artifacts / "scenes" / "5ce" / "manifest.json").write_text(json.dumps(found))
    head = "name,classifier,width,image_size,layer,value,unit,threads,runs\n"
    own = "flops,small_cnn,,64,,2e6,flop,,\nflops,small_cnn,,32,,7e6,flop,,\n"
    grid = [
        f"flops,mobilenet_v2,{width},{size},,{width * size}e6,flop,,\n" for size in (64, 32) for width in (1.0, 0.5)
    ]
    (artifacts / "cost.csv").write_text(head + own + "".join(grid))


def test_what_artifacts_hold_is_shown_below_them_only(tmp_path):
    found = collect(FIXTURE)
    for record in found.records:
        record["config"]["classifier"]["image_size"] = 64
    bank(tmp_path / "artifacts", found.records)
    inside = write(found, tmp_path / "artifacts" / "report", tmp_path / "artifacts").read_text()
    read = Reader(inside)
    assert len(read.sources) == 6 * (4 + 2 * 2) and all(uri.startswith("data:image/png") for uri in read.sources)
    assert read.unnamed == []
    assert ["crazing", "17"] in [row for table in read.tables for row in table]
    specs = dict(re.findall(r'<script type="application/json" id="spec-(.*?)">(.*?)</script>', inside, re.S))
    kid = json.loads(specs["quality-kid"])["data"]
    assert [trace["y"] for trace in kid] == [[0.5, 0.25], [0.1, None]]
    assert json.loads(specs["gan-loss"])["data"][1]["y"] == [0.5, 0.75]
    flops = json.loads(next(spec for spec in specs.values() if "FLOPs an image" in spec and "accuracy" in spec))["data"]
    assert {trace["name"]: set(trace["x"]) for trace in flops}["small_cnn"] == {2e6}
    widths = json.loads(specs["multipliers-flops"])["data"]
    assert [(line["name"], line["x"], line["y"]) for line in widths] == [
        ("32 px", [0.5, 1.0], [16.0, 32.0]),
        ("64 px", [0.5, 1.0], [32.0, 64.0]),
    ]

    outside = write(found, tmp_path / "results", tmp_path / "artifacts").read_text()
    assert Reader(outside).sources == [] and page.NO_PHOTOGRAPHS in outside


def test_the_nearest_training_image_is_found_and_shown_as_it_lay(tmp_path):
    records = collect(FIXTURE).records
    bank(tmp_path, records)
    _, real, pairs = gallery(records, tmp_path).rows[0]
    drawn, partner = pairs[0]
    assert drawn.uri == partner.uri != real[2].uri
    # next to 1: the edge that a shift leaves is weighed down
    assert re.fullmatch(r"nearest: crazing, (0\.9\d|1\.00)", partner.caption)
    assert pairs[1][0].uri != pairs[1][1].uri


@pytest.fixture(scope="module")
def chromium():
    sync = pytest.importorskip("playwright.sync_api", reason="the page is tried in a browser where playwright is")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on the path: apt-get install chromium, or CHROMIUM=/path/to/it")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, written):
    """The page at the width of a telephone, in the dark, without a network; no error at all."""
    told: list[str] = []
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark", offline=True)
    tab = context.new_page()
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on(
        "request", lambda request: told.append(request.url) if not request.url.startswith(("file:", "data:")) else None
    )
    tab.set_default_timeout(PATIENCE)
    tab.goto(written.as_uri())
    yield tab
    assert told == []
    context.close()


def column(tab, number: int) -> list[str]:
    cells = tab.locator(f"table.sortable >> nth=0 >> tbody tr > :nth-child({number})")
    return [text.split()[0] for text in cells.all_inner_texts()]


def test_a_table_sorts_by_click_and_by_keyboard(opened):
    before = column(opened, 2)
    button = opened.locator("table.sortable >> nth=0 >> thead button >> nth=1")
    button.click()
    known = [float(text) for text in column(opened, 2) if text[0].isdigit()]
    assert known == sorted(known) and len(known) == 4 and column(opened, 2) != before
    assert not column(opened, 2)[-1][0].isdigit()
    button.focus()
    opened.keyboard.press("Enter")
    known = [float(text) for text in column(opened, 2) if text[0].isdigit()]
    assert known == sorted(known, reverse=True) and not column(opened, 2)[-1][0].isdigit()
    assert opened.locator("th[aria-sort=descending]").count() == 1


def test_a_mix_and_a_classifier_can_be_toggled(opened):
    points = "document.querySelector('.plot').data.map((trace) => [trace.name, trace.customdata.join(' ')])"
    opened.locator(".plot").first.scroll_into_view_if_needed()
    opened.wait_for_selector(".plot .main-svg")
    before = dict(opened.evaluate(points))
    assert "org20" in before["mobilenet_v2"] and "small_cnn" in before
    opened.locator("#filter input[value=org20]").focus()
    opened.keyboard.press("Space")
    opened.locator("#filter input[value=small_cnn]").click()
    after = dict(opened.evaluate(points))
    assert "org20" not in after["mobilenet_v2"] and "org100" in after["mobilenet_v2"] and "small_cnn" not in after
    table = opened.locator("table.sortable >> nth=0")
    assert [text.split()[0] for text in table.locator("thead th:visible").all_inner_texts()][:3] == [
        "classifier",
        "org100",
        "org0",
    ]
    assert "small_cnn" not in table.locator("tbody th:visible").all_inner_texts()
    assert opened.locator("figure[data-mix=org20]:visible").count() == 0
    opened.locator("#filter input[value=org20]").click()
    assert "org20" in dict(opened.evaluate(points))["mobilenet_v2"]


def test_a_figure_leads_to_its_records(opened):
    link = opened.locator("table.sortable >> nth=0 >> tbody a >> nth=1")
    asked = link.get_attribute("data-cells").split()
    link.focus()
    opened.keyboard.press("Enter")
    records = opened.locator(".record[open]")
    assert [each.get_attribute("id") for each in records.all()] == [f"cell-{name}" for name in asked]
    assert json.loads(records.first.locator("pre").inner_text())["id"] == asked[0]
    assert opened.evaluate("document.activeElement.closest('.record').id") == f"cell-{asked[0]}"


def test_it_fits_a_telephone_and_the_dark(opened, tmp_path):
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    opened.screenshot(path=tmp_path / "dark.png")
    corner = Image.open(tmp_path / "dark.png").convert("L").getpixel((2, 2))
    opened.emulate_media(media="print")
    opened.wait_for_timeout(100)
    opened.screenshot(path=tmp_path / "print.png")
    assert corner < 60 and Image.open(tmp_path / "print.png").convert("L").getpixel((2, 2)) > 240
    assert opened.locator("#filter").is_hidden()
