"""Catalogues of what strangers may try against a running viewer: each gets the one answer, or a plain picture or page."""

import itertools
import signal
import socket
import threading
import time

import pytest

pytest.importorskip("nicegui", reason="The viewer's page must have the extra `view`: pip install 'satmask[view]'.")

import uvicorn
from fastapi import FastAPI
from nicegui import __version__ as NICEGUI  # noqa: N812  # a constant, once NiceGUI is known to be there

from satmask.viewing.shelf import open_shelf
from satmask.viewing.shown import Shown
from viewer import ask, is_png, make_folder, running

STATIC = f"/_nicegui/{NICEGUI}/static"
SPELLINGS = (
    "..", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "%252e%252e", "..;", "..%00", "%c0%ae%c0%ae", "%uff0e%uff0e", "....", "..%5c..",
)  # fmt: skip
TARGETS = (
    "/etc/passwd", "//etc/passwd", "/%2fetc/passwd", "/file:///etc/passwd", "/C:%5cWindows%5cwin.ini", "/~root/.bashrc", "/.git/config",
    "/vsizip/x.zip/y.tif", "/vsicurl/http://127.0.0.1/x.tif", "/%2fvsigzip%2f%2fetc%2fpasswd", "/proc/self/environ", "/openapi.json",
    "/docs", "/redoc", "/metrics", "/favicon.ico/..", "/index.html", "/scenes/town.tif", "/predictions/town.classes.tif",
)  # fmt: skip
PATHS = (
    [f"{base}/{'/'.join([spelling] * 4)}/etc/passwd" for base, spelling in itertools.product((STATIC, "/assets", "/tiles"), SPELLINGS)]
    + [f"/{'%2f'.join([spelling] * 6)}%2fetc%2fpasswd" for spelling in SPELLINGS]
    + [*TARGETS, f"{STATIC}/", f"{STATIC}/nothing.js", f"/_nicegui/{NICEGUI}/libraries/x", f"/_nicegui/{NICEGUI}/components/x",
       f"/_nicegui/{NICEGUI}/resources/x/y", f"/_nicegui/{NICEGUI}/esm/nicegui-leaflet/nothing.js", f"/_nicegui/{NICEGUI}/dynamic_resources/x",
       "/_nicegui_ws/socket.io", "/_nicegui_ws/x", "/assets/nothing.js", "/assets/page.css/x", "/tiles", "/" + "a" * 3000]
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("seen") / "folder")


@pytest.fixture(scope="module")
def server(folder):
    with running(folder) as address:
        yield address


@pytest.fixture(scope="module")
def place(folder):
    (found,) = open_shelf(folder).places
    return found


@pytest.fixture(scope="module")
def nothing(server):
    """The one answer."""
    answer = ask(server, "/nothing")
    assert answer.status == 404
    return answer.seen


def a_tile(place, kind="image"):
    """Address of a tile that is there, in the middle."""
    (south, west), (north, east) = place.view.bounds
    zoom = place.view.native_zoom
    x, y = place.view.to_world([[(west + east) / 2, (south + north) / 2]])[0] * 2**zoom / 256
    return f"/tiles/{place.first(kind).id}/{zoom}/{int(x)}/{int(y)}.png"


@pytest.mark.parametrize("path", PATHS)
def test_no_spelling_of_a_path_leads_anywhere(server, nothing, path):
    assert ask(server, path).seen == nothing


@pytest.mark.parametrize("kind", ["image", "classes", "probabilities", "uncertainty", "truth", "error", "polygons"])
def test_tiles_of_each_layer_are_pictures(server, place, kind):
    assert is_png(ask(server, a_tile(place, kind)))


def abuses(place):
    """Tiles that aren't there, or that nobody should want."""
    layer, z, x, y = a_tile(place).removeprefix("/tiles/").removesuffix(".png").split("/")
    tile = f"/tiles/{layer}/{z}/{x}/{y}.png"
    yield from (
        f"/tiles/{id_}/{z}/{x}/{y}.png"
        for id_ in ("x", "0" * 20, layer[:12], layer + "0", layer.upper(), "a" * 65, "..", "%00")
    )
    yield from (
        f"/tiles/{layer}/{zoom}/{x}/{y}.png"
        for zoom in (0, 1, 27, 99, 100, -1, "1e1", "22.0", "%32%32", "%D9%A2%D9%A2", "+22", " 22", "0x16")
    )
    yield from (
        f"/tiles/{layer}/{z}/{column}/{y}.png"
        for column in (0, int(x) + 1000, -1, 10**9, 10**30, "1_0", "NaN", "9" * 400)
    )
    yield from (f"/tiles/{layer}/{z}/{x}/{row}.png" for row in (0, int(y) + 1000, -1, 10**10, "null", "%0a", y + "%00"))
    yield from (
        f"/tiles/{layer}/{z}/{x}/{y}{end}" for end in ("", ".jpg", ".png/", ".png.png", "@2x.png", ".tif", ".PNG")
    )
    queries = (
        "bands=9,9,9", "bands=-1,0,0", "bands=0", "bands=0,0,0,0", "bands=a,b,c", "bands=", "percent=98,2", "percent=2", "percent=0,101",
        "percent=nan,98", "percent=1e9,2", "threshold=2", "threshold=-1", "threshold=inf", "threshold=%00", "class=9999999", "hidden=x",
        "hidden=" + ",".join(["1"] * 300), "hidden=" + "1" * 5000, "size=100000", "scale=64", "path=/etc/passwd", "url=http://127.0.0.1/",
    )  # fmt: skip
    yield from (f"{tile}?{query}" for query in queries)


def test_tiles_out_of_bounds_are_not_there(server, place, nothing):
    catalogue = list(abuses(place))
    assert len(catalogue) >= 60
    answers = {path: ask(server, path.replace(" ", "%20").encode()) for path in catalogue}
    assert {path: answer.status for path, answer in answers.items() if answer.seen != nothing} == {}


def test_a_flood_of_tiles_is_sent_away_and_the_server_goes_on(server, place):
    tile = a_tile(place, "probabilities")
    answers = []

    def many(start):
        answers.extend(ask(server, f"{tile}?threshold=0.{number}") for number in range(start, start + 8))

    threads = [threading.Thread(target=many, args=(100 + 10 * number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 24 * 8
    assert {answer.status for answer in answers} <= {200, 503}
    assert is_png(ask(server, tile))


def test_few_tiles_are_drawn_at_once_and_few_wait(folder, monkeypatch):
    """Over HTTP, with tiles that take as long as it takes: who comes when all seats are taken is sent away at once."""
    import satmask.viewing.server as serving

    shown = Shown(lambda: open_shelf(folder))
    release, running, most = threading.Event(), [], []

    def slow(self, place, layer, tile, style):
        running.append(1)
        most.append(len(running))
        release.wait(30)
        running.pop()
        return b"tile"

    monkeypatch.setattr(serving.TileServer, "tile", slow)
    app = FastAPI()
    serving._add_tiles(app, shown)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    tile, answers = a_tile(shown.shelf.places[0]), []
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        many = [
            threading.Thread(target=lambda at=at: answers.append(ask(address, f"{tile}?threshold=0.{at}").status))
            for at in range(100, 100 + serving.AT_ONCE + serving.WAITING + 10)
        ]
        for one in many:
            one.start()
        for _ in range(600):
            if len(answers) >= 10:
                break
            time.sleep(0.02)
        assert answers == [503] * 10
        release.set()
        for one in many:
            one.join()
        server.should_exit = True
        thread.join()
    assert answers[10:] == [200] * (serving.AT_ONCE + serving.WAITING)
    assert max(most) == serving.AT_ONCE


class Trap(threading.Thread):
    """A server that nobody should call; notes who does."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.calls = []
        self.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.calls.append(connection.recv(200))
            connection.close()

    @property
    def address(self):
        return f"127.0.0.1:{self.listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def trap():
    found = Trap()
    yield found
    found.listener.close()


def lures(address):
    """Ways to have a server call another one."""
    urls = [
        f"{scheme}{address}/x.tif"
        for scheme in ("http://", "https://", "ftp://", "/vsicurl/http://", "/vsicurl_streaming/http://", "/vsis3/http://", "/vsigzip//vsicurl/http://",
                       "/vsitar//vsicurl/http://", "/vsizip//vsicurl/http://", "//", "WMS:http://", "WCS:http://", "WFS:http://", "ZARR:/vsicurl/http://",
                       "GTIFF_DIR:1:/vsicurl/http://", "vrt:///vsicurl/http://", "NETCDF:http://", "git://", "s3://", "gs://")
    ]  # fmt: skip
    for url in urls:
        quoted = url.replace("/", "%2F").replace(":", "%3A")
        yield f"/?place={quoted}&layers={quoted}.100&swipe={quoted}", {}
        yield f"/tiles/{quoted}/1/0/0.png", {}
        yield (
            f"/tiles/a1/1/0/0.png?url={quoted}",
            {"Referer": url, "X-Forwarded-Host": address, "X-Original-URL": url, "Forwarded": f"host={address}"},
        )


def test_no_request_makes_the_server_call_another(server, trap):
    catalogue = list(lures(trap.address))
    assert len(catalogue) >= 60
    for path, headers in catalogue:
        assert ask(server, path, headers=headers).status in {200, 404}
    assert trap.calls == []


@pytest.mark.parametrize("path", ["/", f"{STATIC}/nicegui.js", "/assets/map.js", "tile", "/nothing"])
def test_every_answer_wears_the_headers(server, place, path):
    headers = ask(server, a_tile(place) if path == "tile" else path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def upgrade(address, **headers):
    """Ask for a WebSocket."""
    wanted = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    return ask(address, "/_nicegui_ws/socket.io/?EIO=4&transport=websocket", headers=wanted | headers)


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1", "file://"]
)
def test_no_other_page_talks_to_the_server(server, nothing, origin):
    answer = upgrade(server, Origin=origin)
    assert (answer.status, answer.body) == (nothing[0], nothing[2])
    polled = ask(
        server, "/_nicegui_ws/socket.io/?EIO=4&transport=polling", method="POST", headers={"Origin": origin}, body=b"40"
    )
    assert polled.seen == nothing


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::ffff:127.0.0.1]:80"])
def test_no_other_name_leads_to_the_server(server, place, nothing, host):
    for path in ("/", a_tile(place), f"{STATIC}/nicegui.js"):
        assert ask(server, path, host=host).seen == nothing


def test_a_server_for_others_wants_its_token(folder):
    with running(folder, "--host", "0.0.0.0") as address:  # noqa: S104  # what is tested
        page, _, token = address.partition("?token=")
        local = "http://127.0.0.1:" + page.rstrip("/").rpartition(":")[2]
        assert len(token) >= 32
        assert {ask(local, path).status for path in ("/", "/nothing", "/assets/map.js", "/?token=wrong")} == {401}
        first = ask(local, f"/?token={token}")
        cookie = first.headers["set-cookie"].partition(";")[0]
        assert (first.status, first.headers["location"]) == (303, "/")
        assert ask(local, "/", headers={"Cookie": cookie}).status == 200
        assert ask(local, "/nothing", headers={"Cookie": cookie}).status == 404


def test_nothing_is_written_where_it_is_started_and_ctrl_c_ends_it_well(folder, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with running(folder, cwd=tmp_path) as address:
        assert ask(address, "/").status == 200
        place = address.process
        place.send_signal(signal.SIGINT)
        assert place.wait(timeout=20) == 0
    assert list(tmp_path.iterdir()) == []
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
