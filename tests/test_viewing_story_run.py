"""Running as people do it, in a real browser: send a scene, predict it, stop, go on, and look at the result."""

import base64
import os
import re

import numpy as np
import pytest

from browsing import Tab, address, browsing, layer, require_browser, until
from satmask.viewing.shelf import open_shelf
from viewed import write_raster

pytest.importorskip("nicegui", reason="The viewer's page must have the extra `view`: pip install 'satmask[view]'.")

from viewer import make_folder, running  # once NiceGUI is known to be there


@pytest.fixture(scope="module")
def browser():
    with browsing(require_browser()) as found:
        yield found


@pytest.fixture
def workshop(tmp_path, write_convolutions):
    """A folder with a town and a model that takes seconds, so that it can be stopped, and a scene of several rounds of windows."""
    folder = make_folder(tmp_path / "folder")
    (folder / "runs").mkdir()
    write_convolutions(folder / "runs" / "early" / "model.onnx", ("building",), layers=3, width=56)
    values = np.random.default_rng(0).integers(0, 255, (1900, 1900, 3), np.uint8)
    # More cores would do all windows in one round, and nobody could see how far it is; what is started inherits these two.
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set()
    if cores:
        os.sched_setaffinity(0, sorted(cores)[:2])
    yield folder, write_raster(tmp_path / "mine.tif", values, compress="deflate")
    if cores:
        os.sched_setaffinity(0, cores)


def test_a_scene_is_sent_predicted_stopped_and_predicted_again(browser, workshop):
    folder, scene = workshop
    with running(folder) as server:
        tab = Tab(browser)
        page = tab.open(server)
        page.get_by_role("tab", name="Run").click()
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose a GeoTIFF").click()
        chooser.value.set_files(scene)
        until(page, lambda: page.locator(".satmask-title").inner_text() == "uploaded/mine")
        assert (folder / "uploaded" / "mine.tif").read_bytes() == scene.read_bytes()
        page.get_by_role("button", name="Predict", exact=True).click()
        page.get_by_text(re.compile(r"^Predicting: (?!0\.0 )\d")).wait_for(timeout=60_000)
        page.get_by_role("button", name="Stop mine by runs/early").click()
        page.get_by_text("Stopped; what was done is kept").wait_for(timeout=60_000)
        assert not list(folder.glob("predicted/*/*.tif"))
        page.get_by_role("button", name="Predict", exact=True).click()
        until(page, lambda: page.locator(".satmask-title").inner_text() == "predicted/runs-early/mine", seconds=90)
        page.locator("img.leaflet-tile-loaded").first.wait_for()
        assert address(page)["panel"] == "run"
        place = next(one for one in open_shelf(folder).places if one.name.startswith("predicted/"))
        until(page, lambda: all(layer(page, place, kind).count() for kind in ("image", "classes", "polygons")))
        page.get_by_role("tab", name="Judge").click()
        page.get_by_text("must have classes and truth").wait_for()
        tab.close()
    assert tab.problems == []


def test_a_scene_is_dropped_and_what_is_none_is_refused(browser, workshop):
    folder, scene = workshop
    with running(folder, "--max-upload", "20MB") as server:
        tab = Tab(browser)
        page = tab.open(server)
        page.get_by_role("tab", name="Run").click()
        page.get_by_text("Or drop one anywhere on the page").wait_for()  # only an open panel takes drops
        drop(page, "mine.tif", b"<VRTDataset/>")
        page.get_by_text("Scene must be a whole TIFF file").wait_for()
        drop(page, "../mine.tif", scene.read_bytes())
        page.get_by_text("Upload's name must be a plain file name").wait_for()
        assert not list(folder.glob("uploaded/*"))
        drop(page, "mine.tif", scene.read_bytes())
        until(page, lambda: page.locator(".satmask-title").inner_text() == "uploaded/mine")
        tab.close()
    # The browser notes each refusal.
    assert len(tab.problems) == 2
    assert all("Failed to load resource" in problem for problem in tab.problems)


def test_an_upload_is_stopped_and_leaves_nothing(browser, workshop):
    folder, scene = workshop
    with running(folder) as server:
        tab = Tab(browser)
        page = tab.open(f"{server}?panel=run")
        slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 100_000}
        tab.context.new_cdp_session(page).send("Network.emulateNetworkConditions", slow)
        page.locator("#satmask-file").set_input_files(scene)
        until(page, lambda: list(folder.glob("uploaded/.upload-*")))
        page.get_by_role("button", name="Stop the upload").click()
        page.get_by_text("The upload was stopped.").wait_for()
        until(page, lambda: not list(folder.glob("uploaded/.upload-*")))
        assert list(folder.glob("uploaded/*")) == []
        tab.close()
    assert tab.problems == []


def drop(page, name, body):
    """Drop a file on the map, as from a file manager."""
    page.evaluate(
        """([name, body]) => {
        const bytes = Uint8Array.from(atob(body), (sign) => sign.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([bytes], name));
        for (const kind of ["dragover", "drop"]) {
            const event = new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data });
            document.querySelector(".satmask-map").dispatchEvent(event);
        } }""",
        [name, base64.b64encode(body).decode()],
    )
