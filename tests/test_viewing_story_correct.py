"""Correcting as people do it, in a real browser: draw, delete, reshape, undo, with and without a pointer; all is kept."""

import re

import geopandas
import pytest

from browsing import Tab, address, browsing, middle, require_browser, until
from satmask.viewing.judging import Judge
from satmask.viewing.shelf import open_shelf

pytest.importorskip("nicegui", reason="The viewer's page must have the extra `view`: pip install 'satmask[view]'.")

from viewer import make_folder, running  # once NiceGUI is known to be there


@pytest.fixture(scope="module")
def browser():
    with browsing(require_browser()) as found:
        yield found


def test_labels_are_drawn_deleted_undone_and_kept(browser, tmp_path):
    folder = make_folder(tmp_path / "folder")
    (scene,) = folder.glob("scenes/*.tif")
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    with running(folder) as server:
        tab = Tab(browser)
        page = tab.open(server)
        page.get_by_role("tab", name="Correct").click()
        labels = page.get_by_text(re.compile(r"^\d+ labels"))
        labels.wait_for()
        count = int(labels.inner_text().split()[0])
        draw(page, "Draw")
        page.get_by_text(f"{count + 1} labels").wait_for()
        page.get_by_text("saved in town.labels.gpkg").wait_for()
        page.get_by_role("button", name="Delete").click()
        page.get_by_text(f"{count} labels").wait_for()
        page.get_by_role("button", name="Undo").click()
        page.get_by_text(f"{count + 1} labels").wait_for()
        draw(page, "Ignore area", down=120)
        page.get_by_text(f"{count + 2} labels").wait_for()
        tab.close()
        assert set(tab.problems) <= {FLAT}
    saved = geopandas.read_file(scene.with_name("town.labels.gpkg"))
    assert len(saved) == count + 2
    assert saved["status"].tolist()[-2:] == ["drawn", "ignored"]
    assert {path: path.read_bytes() for path in before} == before


def test_windows_where_labels_would_help_are_gone_through_by_key(browser, tmp_path):
    folder = make_folder(tmp_path / "folder")
    (place,) = open_shelf(folder).places
    first, second, *_ = queue = Judge(place).to_label(())
    with running(folder) as server:
        tab = Tab(browser)
        page = tab.open(f"{server}?panel=correct")
        page.get_by_text("labels, 0 that nobody looked at").wait_for()
        page.get_by_role("button", name="Where labels would help most").click()
        # The truth counts as labels, and it is everywhere here.
        page.get_by_text("Nothing here.").wait_for()
        for path in folder.glob("scenes/*.gpkg"):
            path.unlink()
        tab.close()
    with running(folder) as server:
        tab = Tab(browser)
        page = tab.open(f"{server}?panel=correct")
        page.get_by_role("button", name="Where labels would help most").click()
        page.get_by_text(f"novelty {first.novelty:.2f}").first.wait_for()
        assert page.locator(".satmask-finding:visible").count() == len(queue)
        for number, one in enumerate((first, second), start=1):
            page.keyboard.press("n")
            page.get_by_text(f"{number} of {len(queue)}: Labels would help").wait_for()
            (south, west), (north, east) = one.box
            until(page, lambda west=west, east=east: west <= float(address(page)["at"].split(",")[1]) <= east)
            until(page, lambda south=south, north=north: south <= float(address(page)["at"].split(",")[0]) <= north)
        page.get_by_role("button", name="Next window (N)").click()  # which keeps the focus
        page.get_by_text(f"3 of {len(queue)}: Labels would help").wait_for()
        page.keyboard.press("p")
        page.get_by_text(f"2 of {len(queue)}: Labels would help").last.wait_for()
        page.keyboard.press("u")
        page.get_by_text("There is nothing to undo.").wait_for()
        tab.close()
    assert tab.problems == []


def test_a_label_is_reshaped_and_found_again(browser, tmp_path):
    folder = make_folder(tmp_path / "folder")
    with running(folder) as server:
        tab = Tab(browser)
        page = tab.open(server)
        page.get_by_role("tab", name="Correct").click()
        page.get_by_text(re.compile(r"^\d+ labels")).wait_for()
        draw(page, "Draw")
        page.get_by_text(re.compile(r"^Label \d+: drawn")).wait_for()
        page.get_by_role("button", name="Reshape").click()
        corner = page.locator(".leaflet-editing-icon").first
        corner.wait_for()
        box = corner.bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        page.mouse.move(box["x"] - 40, box["y"] - 40, steps=4)
        page.mouse.up()
        page.get_by_role("button", name="Keep shape").click()
        page.get_by_text(re.compile(r"^Label \d+: reshaped")).wait_for()
        tab.close()
    with running(folder) as server:
        tab = Tab(browser)
        page = tab.open(server)
        page.get_by_role("tab", name="Correct").click()
        page.get_by_text("saved in town.labels.gpkg").wait_for()
        tab.close()
    saved = geopandas.read_file(folder / "scenes" / "town.labels.gpkg")
    assert saved["status"].tolist()[-1] == "reshaped"


def test_a_label_is_drawn_without_a_pointer(browser, tmp_path):
    folder = make_folder(tmp_path / "folder")
    with running(folder) as server:
        tab = Tab(browser)
        page = tab.open(server)
        page.get_by_role("tab", name="Correct").click()
        labels = page.get_by_text(re.compile(r"^\d+ labels"))
        labels.wait_for()
        count = int(labels.inner_text().split()[0])
        page.locator(".satmask-map").focus()
        page.keyboard.press("b")
        page.locator(".satmask-aiming").wait_for()
        for corners, arrow in enumerate(("ArrowRight", "ArrowDown", "ArrowLeft"), start=1):
            before = address(page)["at"]
            page.keyboard.press("v")
            page.locator(".leaflet-editing-icon").nth(corners - 1).wait_for()
            page.keyboard.press(arrow)
            until(page, lambda before=before: address(page)["at"] != before)
        page.keyboard.press("Enter")
        page.get_by_text(f"{count + 1} labels").wait_for()
        tab.close()
    (drawn,) = geopandas.read_file(folder / "scenes" / "town.labels.gpkg").query("status == 'drawn'").geometry
    assert len(drawn.exterior.coords) == 4


# Leaflet.draw says so of Leaflet's own function.
FLAT = "Deprecated use of _flat, please use L.LineUtil.isFlat instead."


def draw(page, button, *, down=0):
    """Draw a square near the middle of the map."""
    page.get_by_role("button", name=button, exact=True).click()
    page.locator(".leaflet-mouse-marker").first.wait_for(state="attached")
    left, top = middle(page)
    for x, y in ((0, 0), (60, 0), (60, 60), (0, 60), (0, 0)):
        page.mouse.move(left + x, top + y + down)
        page.mouse.click(left + x, top + y + down)
        page.wait_for_timeout(80)
