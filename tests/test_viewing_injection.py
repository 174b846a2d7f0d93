"""Names that want to be markup or script: on the page they are text, wherever they come from."""

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS

from browsing import Tab, browsing, require_browser
from satmask.grid import Grid
from satmask.legend import Legend
from satmask.polygons import find_polygons, write_polygons
from viewer import running, write

RUN = "window.ran=(window.ran||0)+1"
PAYLOADS = (
    f"<script>{RUN}</script>", f"<img src=x onerror={RUN}>", f"<svg onload={RUN}>", f'"><script>{RUN}</script>', f"'><img src=x onerror={RUN}>",
    f"</script><script>{RUN}</script>", f"</title><script>{RUN}</script>", f"</style><script>{RUN}</script>", f"`;{RUN};`", f"${{{RUN}}}",
    f"\\`${{{RUN}}}", f"{{{{{RUN}}}}}", "{{constructor.constructor('window.ran=1')()}}", f"javascript:{RUN}", f'<a href="javascript:{RUN}">x</a>',
    f'<iframe srcdoc="<script>{RUN}</script>">', f"<body onload={RUN}>", f"<details open ontoggle={RUN}>", f'<math><mi//xlink:href="data:x,{RUN}">',
    f"&lt;script&gt;{RUN}&lt;/script&gt;", f"&#60;img src=x onerror={RUN}&#62;", f"\\u003cscript\\u003e{RUN}\\u003c/script\\u003e", f'<!--<img src="--><img src=x onerror={RUN}//">',
    f"<input autofocus onfocus={RUN}>", f"<video><source onerror={RUN}></video>", f'<object data="javascript:{RUN}">', '<base href="//evil.example/">', '<link rel=stylesheet href="//evil.example/x.css">',
    "<style>*{background:url(//evil.example/)}</style>", '<meta http-equiv=refresh content="0;url=//evil.example">', f'");{RUN};("', f"'+{RUN}+'",
)  # fmt: skip
SIDE = 64
NAME = f'town"><img src=x onerror={RUN}>'  # a file's name takes all but a slash


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A folder in which everything that has a name is named like that."""
    folder = tmp_path_factory.mktemp("hostile") / f"<img src=x onerror={RUN}>"
    folder.mkdir()
    legend = Legend.of(dict(enumerate(PAYLOADS, start=1)))
    grid = Grid(6 * SIDE, 6 * SIDE, Affine(0.5, 0, 4e5, 0, -0.5, 5e6), CRS(32633))
    numbers = np.repeat(np.repeat(np.arange(1, 37).reshape(6, 6), SIDE, 0), SIDE, 1)
    classes = np.where(numbers <= len(PAYLOADS), numbers, 0).astype(np.uint8)
    write(folder / f"{NAME}.classes.tif", classes, grid, legend, PAYLOADS[0], nodata=255)
    write(folder / f"{NAME}.tif", np.full(grid.shape, 90, np.uint8), grid, legend, PAYLOADS[1])
    frame = find_polygons(classes, grid, legend)
    frame["note"] = list(PAYLOADS)
    frame[f"<b onclick={RUN}>"] = PAYLOADS[0]
    write_polygons(frame, folder / f"{NAME}.gpkg", layer="polygons")
    (folder / f"{NAME}.onnx").write_bytes(f"no model, but <img src=x onerror={RUN}>".encode())
    with running(folder) as address:
        yield address


@pytest.fixture(scope="module")
def page(server):
    with browsing(require_browser()) as browser:
        tab = Tab(browser)
        yield tab.open(server)
        assert tab.problems == []
        assert tab.hosts <= {server.split("/")[2], "data:"}
        tab.close()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_class_of_any_name_is_text_in_the_legend(page, payload):
    assert page.get_by_role("checkbox", name=payload, exact=True).count() == 1
    assert page.evaluate("window.ran") is None


def test_files_and_folders_of_any_name_are_text(page):
    assert page.get_by_text(NAME, exact=False).count() >= 1
    assert f"onerror={RUN}" in page.title()
    assert page.evaluate("window.ran") is None


def test_attributes_of_any_name_and_content_are_text(page):
    box = page.locator(".satmask-map").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2 + 5, box["y"] + box["height"] / 2 + 5)
    page.locator(".satmask-facts").wait_for()
    text = page.locator(".satmask-facts").inner_text()
    assert f"<b onclick={RUN}>" in text
    assert sum(payload in text for payload in PAYLOADS) >= 2
    assert page.locator(".satmask-facts").locator("b, img, script, svg, iframe").count() == 0
    assert page.evaluate("window.ran") is None


@pytest.mark.parametrize(
    "part", ["place", "at", "layers", "swipe", "hidden", "threshold", "class", "bands", "percent", "panel", "anything"]
)
def test_what_an_address_says_is_never_markup(page, server, part):
    page.goto(f"{server}?{part}=%3Cscript%3E{RUN}%3C/script%3E%22%3E%3Cimg%20src=x%20onerror={RUN}%3E")
    page.locator("img.leaflet-tile-loaded").first.wait_for()
    assert page.evaluate("window.ran") is None


def test_lists_of_labels_hold_text(page, server):
    page.goto(server)
    page.get_by_role("tab", name="Correct").click()
    page.get_by_label("Class", exact=True).click()
    page.get_by_role("option").first.wait_for()
    assert page.get_by_role("option", name=PAYLOADS[1], exact=True).count() == 1
    assert page.evaluate("window.ran") is None


def test_models_and_what_becomes_of_them_are_text(page, server):
    page.goto(f"{server}?panel=run")
    page.get_by_role("button", name="Predict", exact=True).click()
    job = page.locator(".satmask-job").first
    job.get_by_text("got").first.wait_for(timeout=60_000)
    assert f"{NAME} by {NAME}" in job.inner_text()
    assert job.locator("img, script, b").count() == 0
    assert page.evaluate("window.ran") is None
