"""The viewer as people use it, in a real browser: look at layers, compare, click, move the threshold, come back."""

import re
import socket
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import rasterio

from browsing import Tab, address, browsing, hold, layer, middle, require_browser, until
from satmask.cli import main
from satmask.viewing.judging import Judge
from satmask.viewing.shelf import open_shelf

pytest.importorskip("nicegui", reason="The viewer's page must have the extra `view`: pip install 'satmask[view]'.")

from satmask.viewing.page.finding_list import kind_text  # once NiceGUI is known to be there
from viewer import make_folder, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("story") / "folder")


@pytest.fixture(scope="module")
def place(folder):
    (found,) = open_shelf(folder).places
    return found


@pytest.fixture(scope="module")
def browser():
    with browsing(require_browser()) as found:
        yield found


@pytest.fixture(scope="module")
def server(browser, folder):
    with running(folder) as address:
        yield address


@pytest.fixture
def tab(browser, server):
    opened = Tab(browser)
    yield opened
    opened.close()
    assert opened.problems == []
    assert opened.hosts <= {urlsplit(server).netloc, "data:"}, "nothing but this server was asked for anything"


def test_the_map_comes_with_image_classes_and_polygons(tab, server, place):
    page = tab.open(server)
    for kind in ("image", "classes", "polygons"):
        assert layer(page, place, kind).count()
    assert not layer(page, place, "probabilities").count()
    assert page.get_by_text("predictions/town").is_visible()
    assert re.search(r"\d+ m", page.locator(".leaflet-control-scale-line").inner_text())
    until(page, lambda: "EPSG:32631" in page.get_by_label("Coordinates").inner_text())
    assert "0.18" in page.get_by_label("Coordinates").inner_text()


def test_layers_are_switched_and_faded(tab, server, place):
    page = tab.open(server)
    page.get_by_role("switch", name="Polygons").click()
    until(page, lambda: not layer(page, place, "polygons").count())
    page.get_by_role("switch", name="Errors").click()
    until(page, lambda: layer(page, place, "error").count())
    hold(page, "Opacity of Errors in per cent")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    id_ = place.first("error").id
    until(page, lambda: f"{id_}.50" in address(page)["layers"])
    assert page.locator(f'.leaflet-layer:has(img[src*="{id_}"])').evaluate("box => box.style.opacity") == "0.5"


def test_the_legend_switches_a_class(tab, server, place):
    page = tab.open(server)
    page.get_by_role("checkbox", name="building").click()
    until(page, lambda: layer(page, place, "classes").first.get_attribute("src").endswith("hidden=1"))
    until(page, lambda: address(page).get("hidden") == "1")


def test_the_threshold_recolours_the_probability(tab, server, place):
    page = tab.open(server)
    page.get_by_role("switch", name="Probabilities").click()
    page.get_by_role("switch", name="Threshold").click()
    hold(page, "Probability from which a pixel has the class")
    page.keyboard.press("ArrowRight")
    until(page, lambda: layer(page, place, "probabilities").first.get_attribute("src").endswith("threshold=0.51"))
    until(page, lambda: address(page).get("threshold") == "0.51")


def test_bands_and_stretch_change_the_image(tab, server, place):
    page = tab.open(server)
    page.get_by_label("Red", exact=True).click()
    page.get_by_role("option", name="3 blue").click()
    until(page, lambda: "bands=2,1,2" in layer(page, place, "image").first.get_attribute("src"))
    until(page, lambda: address(page).get("bands") == "3,2,3")
    assert layer(page, place, "image").first.evaluate("tile => tile.decode().then(() => tile.naturalWidth)") == 256


def test_a_click_tells_about_the_pixel(tab, server, place):
    page = tab.open(server)
    page.mouse.click(*middle(page))
    facts = page.locator(".satmask-facts")
    facts.wait_for()
    text = facts.inner_text()
    assert "bands red" in text
    assert "probabilities building" in text


def test_swiping_cuts_a_layer(tab, server, place):
    page = tab.open(server)
    choice = page.get_by_label("Right of the handle only")
    choice.click()
    page.get_by_role("option", name="Classes").click()
    page.get_by_role("listbox").wait_for(state="hidden")
    until(page, lambda: choice.evaluate("box => box === document.activeElement"))  # the list gives the focus back
    hold(page, "Swipe: where the upper layer begins")
    box = page.locator(f'.leaflet-layer:has(img[src*="{place.first("classes").id}"])')
    until(page, lambda: box.evaluate("box => box.style.clip"))
    before = box.evaluate("box => box.style.clip")
    page.keyboard.press("ArrowRight")
    until(page, lambda: box.evaluate("box => box.style.clip") != before)
    assert address(page)["swipe"] == place.first("classes").id


def test_a_link_shows_the_same_view(tab, browser, server, place):
    page = tab.open(server)
    page.get_by_role("switch", name="Classes").click()
    page.locator(".satmask-map").focus()
    page.keyboard.press("+")
    until(page, lambda: address(page).get("at", "").endswith(",20") or address(page).get("at", "").endswith(",20.5"))
    page.mouse.move(0, 0)
    again = Tab(browser)
    other = again.open(page.url)
    until(other, lambda: "at" in address(other))
    assert address(other) == address(page)
    assert not layer(other, place, "classes").count()
    again.close()


def test_keys_do_what_buttons_do(tab, server, place):
    page = tab.open(server)
    page.keyboard.press("1")
    until(page, lambda: not layer(page, place, "polygons").count())
    page.keyboard.press("]")
    until(page, lambda: address(page).get("threshold") == "0.55")
    page.keyboard.press("i")
    page.locator(".satmask-facts").wait_for()
    page.keyboard.press("?")
    page.get_by_text("Threshold up").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_map_and_opens_panels(browser, server, scheme):
    tab = Tab(browser, viewport={"width": 390, "height": 780}, color_scheme=scheme, has_touch=True)
    page = tab.open(server)
    assert page.locator(".satmask-map").bounding_box()["width"] == 390
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="Panels").click()
    page.get_by_role("switch", name="Classes").wait_for()
    page.wait_for_timeout(300)
    assert page.get_by_role("switch", name="Classes").bounding_box()["x"] >= 0
    assert page.evaluate("document.body.classList.contains('body--dark')") == (scheme == "dark")
    tab.close()
    assert tab.problems == []


def test_light_and_dark_are_turned(browser, server):
    tab = Tab(browser, color_scheme="dark")
    page = tab.open(server)
    page.get_by_role("button", name="Light or dark").click()
    until(page, lambda: not page.evaluate("document.body.classList.contains('body--dark')"))
    tab.close()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A folder of a plain image, one of 16 bits with four bands, and one that is none."""
    folder = tmp_path_factory.mktemp("mixed")
    random = np.random.default_rng(0)
    cv2.imwrite(str(folder / "a.png"), random.integers(0, 255, (300, 500, 3), np.uint8))
    values = random.integers(100, 4000, (4, 200, 300), np.uint16)
    with rasterio.open(folder / "b.tif", "w", driver="GTiff", width=300, height=200, count=4, dtype="uint16") as file:
        file.write(values)
    (folder / "c.tif").write_bytes(b"II*\0" + b"nothing of the kind" * 9)
    return folder


def test_plain_images_are_shown_in_pixels(browser, mixed):
    with running(mixed) as server:
        tab = Tab(browser)
        page = tab.open(server)
        until(page, lambda: "column 250, row 150" in page.get_by_label("Coordinates").inner_text())
        assert page.locator(".leaflet-control-scale-line").inner_text().endswith(" px")
        page.get_by_role("button", name="Next place").click()
        page.locator(".satmask-title", has_text="b").wait_for()
        page.locator("img.leaflet-tile-loaded").first.wait_for()
        page.get_by_role("button", name="Next place").click()
        page.get_by_text("c.tif").first.wait_for()
        page.get_by_role("link", name="a", exact=True).click()
        page.locator("img.leaflet-tile-loaded").first.wait_for()
        tab.close()
    assert tab.problems == []


def test_an_empty_folder_is_refused(tmp_path, capsys):
    assert main(["view", str(tmp_path), "--no-browser"]) == 2
    assert "must hold rasters" in capsys.readouterr().err


def test_an_address_that_is_taken_is_refused(folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["view", str(folder), "--no-browser", "--port", str(taken.getsockname()[1])]) == 2
    assert "--port 0" in capsys.readouterr().err


def test_everything_that_is_pressed_has_a_name(tab, server):
    page = tab.open(server)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, a, input, [role=slider], [role=switch], [role=checkbox]')]
        .filter(e => e.offsetParent && !(e.getAttribute('aria-label') || e.innerText || e.title || e.labels?.length
                 || e.closest('label')?.innerText || e.closest('[aria-label]')))
        .map(e => e.outerHTML)"""
    )
    assert nameless == []


def test_the_threshold_tells_what_it_scores(tab, server, place):
    page = tab.open(server)
    page.get_by_role("switch", name="Threshold").click()
    hold(page, "Probability from which a pixel has the class")
    page.keyboard.press("ArrowRight")
    wanted = Judge(place).at(1, 0.51)
    page.get_by_text(
        f"IoU {wanted['iou']:.3f} · precision {wanted['precision']:.3f} · recall {wanted['recall']:.3f}"
    ).wait_for()


def test_judging_lists_the_worst_and_jumps_to_it(tab, server, place):
    page = tab.open(server)
    until(page, lambda: "at" in address(page))
    before = address(page)["at"]
    page.get_by_role("tab", name="Judge").click()
    worst = Judge(place).worst()
    page.get_by_text(f"1. {kind_text(worst[0].kind)}").wait_for()
    score = Judge(place).scores()["classes"][0]["iou"]
    assert page.get_by_role("cell", name=f"{score:.3f}").is_visible()
    page.keyboard.press("n")
    until(page, lambda: address(page)["at"] != before)
    lat, lng, _ = map(float, address(page)["at"].split(","))
    (south, west), (north, east) = worst[0].box
    assert south <= lat <= north
    assert west <= lng <= east
    first = address(page)["at"]
    page.keyboard.press("n")
    until(page, lambda: address(page)["at"] != first)
    page.keyboard.press("p")
    until(page, lambda: address(page)["at"] == first)


def test_curves_are_drawn_when_they_are_opened(tab, server, place):
    page = tab.open(server)
    page.get_by_role("tab", name="Judge").click()
    page.get_by_role("button", name="Curves").click()
    best = Judge(place).curve(1)["best"]
    page.get_by_text(f"Highest IoU {best['iou']:.3f} from {best['threshold']:.2f} on.").wait_for()
    chart = page.get_by_role("img", name="Precision over recall")
    until(page, lambda: chart.locator("svg, canvas").count())
    page.keyboard.press("]")
    until(page, lambda: address(page).get("threshold") == "0.55")


def test_findings_are_filtered(tab, server, place):
    page = tab.open(server)
    page.get_by_role("tab", name="Judge").click()
    rows = page.locator(".satmask-finding")
    until(page, lambda: rows.count() == len(Judge(place).worst()))
    page.get_by_label("Error", exact=True).click()
    page.get_by_role("option", name="Invented").click()
    until(page, lambda: rows.count() == len(Judge(place).worst(kinds=("invented",))))
    assert rows.count()
