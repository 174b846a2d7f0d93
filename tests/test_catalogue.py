"""The catalogue: names find files that are checked, and what isn't the file meant is never kept."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio

from satmask import catalogue, fetching
from satmask.catalogue import find_named, read_catalogue
from satmask.cli import main
from satmask.errors import InstallError, ModelError, SettingError

BYTES = b"a model" * 1000
DIGEST = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def server():
    """A server on this machine, and what it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # http.server's name
            asked.append(self.path)
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "http://example.org/model.onnx")
                self.end_headers()
                return
            found = {"/model.onnx": BYTES, "/longer": BYTES + b"!" * 10**6, "/other": BYTES[::-1], "/short": BYTES[:50]}
            content = found.get(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}", asked
    served.shutdown()
    thread.join()
    served.server_close()


def entry(**changes):
    part = {"url": "http://127.0.0.1:9/model.onnx", "sha256": DIGEST, "size_bytes": len(BYTES)}
    facts = {"name": "town", "version": "1.0", "summary": "Houses of a town", "classes": ["building"]}
    return facts | {"gsd_m": [0.3, 0.6], "licence": "CC-BY-4.0", "model": part} | changes


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write a catalogue of one's own, and keep downloads apart."""
    monkeypatch.setenv(catalogue.CACHE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def write(*entries):
        path = tmp_path / "own.json"
        path.write_text(json.dumps({"models": entries}))
        monkeypatch.setenv(catalogue.OWN, str(path))

    return write


def tiny_model(path):
    """A model file of an untrained network."""
    from satmask.legend import Legend
    from satmask.model_file import BandInfo, ModelInfo, export
    from satmask.models import build

    network = build("unet", bands=3, classes=1, filters=(2, 4))
    info = ModelInfo(
        legend=Legend.of(["building"]),
        bands=tuple(BandInfo(name=name) for name in ("red", "green", "blue")),
        dtype="uint8",
        value_range=((0, 255),) * 3,
        fill=(0, 0, 0),
        stride=2,
        halo=10,
        activation="sigmoid",
        network="unet",
        options={"filters": [2, 4]},
    )
    return export(network, path, info)


def part(url, **changes):
    return {"url": url, "sha256": DIGEST, "size_bytes": len(BYTES)} | changes


def test_a_name_is_downloaded_once_and_checked_each_time(server, own, tmp_path):
    address, asked = server
    own(entry(model=part(f"{address}/model.onnx")))
    path = find_named(Path("town"))
    assert path == tmp_path / "cache" / "town-1.0" / "model.onnx"
    assert path.read_bytes() == BYTES
    assert find_named(Path("town")) == path
    assert asked == ["/model.onnx"]
    path.write_bytes(b"somebody else's")
    assert find_named(Path("town")).read_bytes() == BYTES
    assert len(asked) == 2


@pytest.mark.parametrize("place", ["longer", "other", "short", "nowhere", "moved"])
def test_what_is_not_the_file_is_not_kept(server, own, tmp_path, place):
    own(entry(model=part(f"{server[0]}/{place}")))
    with pytest.raises((InstallError, SettingError)):
        find_named(Path("town"))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("url", ["http://example.org/a.onnx", "file:///etc/passwd", "ftp://127.0.0.1/a", "a.onnx"])
def test_only_https_is_fetched(tmp_path, url):
    with pytest.raises(SettingError, match="https"):
        fetching.fetch(url, tmp_path / "a", sha256=DIGEST, size_bytes=1)


def test_offline_is_said_in_one_line(own, capsys):
    own(entry())
    assert main(["models", "--fetch", "town"]) == 1
    error = capsys.readouterr().err
    assert "Go online once" in error
    assert error.count("\n") == 1


def test_what_lies_there_comes_before_names(own, tmp_path):
    own(entry())
    (tmp_path / "town").mkdir()
    assert find_named(Path("town")) == Path("town")
    assert find_named(Path("models/town.onnx")) == Path("models/town.onnx")


def test_unknown_names_are_refused_with_those_that_are_known(own):
    own(entry())
    with pytest.raises(ModelError, match=r"got 'city'. There are buildings, town"):
        find_named(Path("city"))


def test_shipped_files_are_checked(own, tmp_path):
    own(entry(model={"file": "town.onnx", "sha256": DIGEST, "size_bytes": len(BYTES)}))
    with pytest.raises(ModelError, match="got none"):
        find_named(Path("town"))
    (tmp_path / "town.onnx").write_bytes(BYTES)
    assert find_named(Path("town")).samefile(tmp_path / "town.onnx")
    (tmp_path / "town.onnx").write_bytes(BYTES + b"!")
    with pytest.raises(ModelError, match="got another one"):
        find_named(Path("town"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "../town"},
        {"model": part("https://example.org/a", sha256="0")},
        {"model": part("https://example.org/a", size_bytes=2**31)},
        {"model": part(None, file="../town.onnx")},
        {"colour": "red"},
    ],
)
def test_a_catalogue_that_breaks_the_rules_is_refused(own, wrong):
    own(entry(**wrong))
    with pytest.raises(ModelError, match="Catalogue must"):
        read_catalogue()


def test_the_list_says_what_there_is(own, capsys):
    own(entry())
    assert main(["models"]) == 0
    assert DIGEST in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["models"][-1]
    assert (told["name"], told["sha256"], told["here"], told["start"]) == ("town", DIGEST, False, False)


def test_a_card_is_shown_from_inside_the_file(own, tmp_path, capsys):
    from satmask.model_file import read_info, rewrite

    model = tiny_model(tmp_path / "town.onnx")
    assert main(["models", "--card", str(model)]) == 1
    assert "must have a card inside" in capsys.readouterr().err
    info = read_info(model)
    rewrite(model, info.model_copy(update={"training": info.training | {"card": "# Town\n\nRoofs of 0.3 m.\n"}}))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    own(entry(model={"file": "town.onnx", "sha256": digest, "size_bytes": model.stat().st_size}))
    assert main(["models", "--card", "town"]) == 0
    assert capsys.readouterr().out == "# Town\n\nRoofs of 0.3 m.\n"


def test_without_models_one_line_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.delenv(catalogue.OWN, raising=False)
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "none.json")
    (tmp_path / "none.json").write_text('{"models": []}')
    monkeypatch.chdir(tmp_path)
    assert main(["models"]) == 0
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["predict", "buildings", "scene.tif", "--out", "out"]) == 1
    assert "No model is known by name yet" in capsys.readouterr().err


def test_a_name_predicts_as_its_file_does(own, tmp_path, capsys):
    """The same bytes, whether a model is named or its path is given."""
    model = tiny_model(tmp_path / "town.onnx")
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    own(entry(model={"file": "town.onnx", "sha256": digest, "size_bytes": model.stat().st_size}))
    values = np.random.default_rng(0).integers(1, 255, (3, 40, 50)).astype(np.uint8)
    transform = rasterio.Affine(0.5, 0, 500000, 0, -0.5, 5000000)
    shape = {"driver": "GTiff", "height": 40, "width": 50, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "scene.tif", "w", **shape, crs="EPSG:32633", transform=transform) as file:
        file.write(values)
    for name, out in (("town", "named"), (str(model), "pathed")):
        assert main(["predict", name, "scene.tif", "--out", out, "--quiet", "--no-polygons"]) == 0
    capsys.readouterr()
    one, other = (Path(out, "scene.probabilities.tif").read_bytes() for out in ("named", "pathed"))
    assert one == other
