"""Scenes on the network, fetched from a server on this machine: the same pixels, or one clear line."""

import re
import shutil
import socket
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import rasterio
from affine import Affine

from satmask.addresses import Remote, as_address, is_remote
from satmask.errors import SceneError, SettingError
from satmask.scene import Scene
from satmask.stack import open_imagery
from satmask.windows import Window

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")


class _Handler(BaseHTTPRequestHandler):
    """Give parts of files, as object stores do; note who asked for what, and fail as often as told."""

    protocol_version = "HTTP/1.1"

    def __init__(self, server_state, *arguments):
        self.state = server_state
        super().__init__(*arguments)

    def log_message(self, *arguments):
        """Say nothing."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        state = self.state
        state.asked.append((self.command, self.path, dict(self.headers)))
        path = state.folder / self.path.partition("?")[0].lstrip("/")
        if state.failures:
            state.failures -= 1
            return self.reply(503, b"later")
        if state.closed and "Authorization" not in self.headers:
            return self.reply(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        if not path.is_file():
            return self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
        content = path.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.reply(200, content, body=body)
        first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        if first >= len(content):
            return self.reply(416, b"")
        part = content[first : last + 1]
        return self.reply(206, part, body=body, extra={"Content-Range": f"bytes {first}-{last}/{len(content)}"})

    def reply(self, code, content, *, body=True, extra=None):
        self.send_response(code)
        for key, value in {"Accept-Ranges": "bytes", "Content-Length": str(len(content)), **(extra or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


class _State:
    def __init__(self, folder):
        self.folder, self.asked, self.failures, self.closed = folder, [], 0, False


@pytest.fixture
def server(tmp_path):
    """A server of the files in `tmp_path`; `server.url` is its address."""
    state = _State(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, state)) as found:
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{found.server_address[1]}"
        yield state
        found.shutdown()


@pytest.fixture
def s3(server, monkeypatch):
    """The same server as an object store that wants signed requests."""
    server.closed = True
    for key, value in {
        "AWS_S3_ENDPOINT": server.url.removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_REGION": "somewhere-1",
    }.items():
        monkeypatch.setenv(key, value)
    return server


@pytest.fixture
def path(tmp_path):
    (tmp_path / "bucket").mkdir()
    target = tmp_path / "bucket" / "north.tif"
    values = np.random.default_rng(0).integers(1, 200, (3, 600, 700), dtype=np.uint8)
    settings = {"driver": "GTiff", "height": 600, "width": 700, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    blocks = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    with rasterio.open(target, "w", transform=Affine(1, 0, 5e5, 0, -1, 4e6), **settings, **blocks) as file:
        file.write(values)
    return target


def same(address, path):
    window = Window(200, -30, 150, 300)
    with Scene(path) as here, open_imagery(address) as there:
        assert there.name == "north.tif"
        assert there.grid == here.grid
        one, other = here.read(window), there.read(window)
        assert (one.values == other.values).all()
        assert (one.valid == other.valid).all()


def test_parts_of_files_are_fetched_by_http(server, path):
    same(f"{server.url}/bucket/north.tif", path)
    assert any("Range" in headers for _, _, headers in server.asked)
    assert {name for _, name, _ in server.asked} == {"/bucket/north.tif"}, "sidecars are not asked for"


def test_objects_are_fetched_by_s3_with_signed_requests(s3, path):
    same("s3://bucket/north.tif", path)
    assert all(headers["Authorization"].startswith("AWS4-HMAC-SHA256") for _, _, headers in s3.asked)


def test_what_fails_for_a_moment_is_asked_for_again(server, path):
    again = shutil.copy(path, path.with_name("again.tif"))
    server.failures = 2
    with Scene(f"{server.url}/bucket/again.tif") as scene, Scene(again) as want:
        window = Window(0, 0, 50, 50)
        assert (scene.read(window).values == want.read(window).values).all()


def test_a_missing_file_is_one_clear_line(server):
    with pytest.raises(SceneError, match=r"can be fetched.*http://.*/no\.tif\. Check the address") as error:
        Scene(f"{server.url}/no.tif?signature=secret")
    assert "secret" not in str(error.value)


def test_a_missing_server_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(SceneError, match="Check the address and the connection"):
        Scene(f"http://127.0.0.1:{port}/a.tif")


def test_missing_credentials_are_one_clear_line(s3, path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    shutil.copy(path, path.with_name("hidden.tif"))
    with pytest.raises(SceneError, match=r"s3://bucket/hidden\.tif\. Set the credentials"):
        Scene("s3://bucket/hidden.tif")


def test_truncated_objects_are_errors(server, path):
    content = path.read_bytes()
    path.with_name("half.tif").write_bytes(content[: len(content) // 2])
    with pytest.raises(SceneError, match=r"half\.tif"), Scene(f"{server.url}/bucket/half.tif") as scene:
        scene.read(Window(0, 0, 600, 700))


def test_a_vrt_must_lie_on_this_machine(server):
    with pytest.raises(SceneError, match="must lie on this machine"):
        Scene(f"{server.url}/a.vrt")
    assert not server.asked


@pytest.mark.parametrize(
    ("url", "name", "gdal"),
    [
        ("s3://bucket/a/b c#1.tif", "b c#1.tif", "/vsis3/bucket/a/b c#1.tif"),
        ("gs://bucket/x.jp2", "x.jp2", "/vsigs/bucket/x.jp2"),
        ("az://box/x.tif", "x.tif", "/vsiaz/box/x.tif"),
        ("HTTPS://example.org/x.tif?a=b.c", "x.tif", "/vsicurl/HTTPS://example.org/x.tif?a=b.c"),
    ],
)
def test_addresses_are_paths_of_gdal(url, name, gdal):
    address = as_address(url)
    assert isinstance(address, Remote)
    assert (address.name, address.gdal_name) == (name, gdal)
    assert "?" not in str(address)


@pytest.mark.parametrize(
    "url", ["s3://bucket", "https:///a.tif", "http://host/", "s3://bucket/a\n.tif", "ftp://h/a.tif"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(SettingError, match="Address must name a file"):
        Remote(url)


def test_passwords_are_not_told():
    assert str(Remote("https://me:secret@example.org/a.tif?key=secret")) == "https://example.org/a.tif"
    assert not is_remote("C://a.tif")
