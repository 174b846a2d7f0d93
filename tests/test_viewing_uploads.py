"""Uploads that strangers may try: each is refused with one clear line and leaves nothing behind; good ones land whole."""

import contextlib
import io
import json
import os
import socket
import struct
import threading
import time
import zlib
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import rasterio

pytest.importorskip("nicegui", reason="The viewer's page must have the extra `view`: pip install 'satmask[view]'.")

from satmask.viewing.uploads import OLD_S, UploadError, Uploads, safe_name
from viewed import write_raster
from viewer import Answer, ask, running

CAP = 300_000
RANDOM = np.random.default_rng(0)


def geotiff(size=64, bands=3, **options):
    """The bytes of a GeoTIFF."""
    values = RANDOM.integers(0, 255, (bands, size, size), np.uint8)
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", width=size, height=size, count=bands, dtype="uint8", **options) as file:
            file.write(values)
        return memory.read()


GOOD = geotiff()
VRT = b'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0)
XML = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><WMS>&e;</WMS>'


def bomb():
    """A GeoTIFF of a few kilobytes that holds 64 MB of zeros, in blocks that are small."""
    with rasterio.MemoryFile() as memory:
        settings = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate"}
        with memory.open(driver="GTiff", width=8192, height=8192, count=1, dtype="uint8", **settings) as file:
            file.write(np.zeros((1, 8192, 8192), np.uint8))
        return memory.read()


def one_strip_bomb():
    """A GeoTIFF that says it is one strip of 4 GB."""
    packed = zlib.compress(bytes(10_000_000))
    entries = [(256, 4, 65_536), (257, 4, 65_536), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 200), (277, 3, 1),
               (278, 4, 65_536), (279, 4, len(packed))]  # fmt: skip
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries))
    head += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + struct.pack("<I", 0)
    return head.ljust(200, b"\0") + packed


# Name, body, status, and what the line says.
REFUSED = {
    "a VRT as .tif": ("a.tif", VRT, 415, "whole TIFF"),
    "XML as .tif": ("a.tif", XML, 415, "whole TIFF"),
    "a PNG as .tif": ("a.tif", PNG, 415, "whole TIFF"),
    "text as .tif": ("a.tif", b"GTIFF_DIR:1:/etc/passwd", 415, "whole TIFF"),
    "a zip as .tif": ("a.tif", b"PK\x03\x04" + bytes(400), 415, "whole TIFF"),
    "empty": ("a.tif", b"", 415, "whole TIFF"),
    "only a head": ("a.tif", b"II*\0\x08\0\0\0", 415, "whole TIFF"),
    "truncated": ("a.tif", GOOD[: len(GOOD) // 2], 415, "must be"),
    "a bomb of many blocks": ("a.tif", bomb(), 413, "when it is decoded"),
    "a bomb of one strip": ("a.tif", one_strip_bomb(), 415, "blocks of at most"),
    "over the cap": ("a.tif", GOOD + bytes(CAP), 413, "at most 300,000 bytes"),
    "a VRT by its name": ("a.vrt", VRT, 400, "ends in .tif"),
    "no suffix": ("a", GOOD, 400, "ends in .tif"),
    "a script": ("a.tif.js", GOOD, 400, "ends in .tif"),
    "up": ("../a.tif", GOOD, 400, "plain file name"),
    "far up": ("../../../../etc/a.tif", GOOD, 400, "plain file name"),
    "up, spelt twice": ("%2e%2e%2fa.tif", GOOD, 400, "plain file name"),
    "up on Windows": ("..\\a.tif", GOOD, 400, "plain file name"),
    "a drive": ("C:a.tif", GOOD, 400, "plain file name"),
    "absolute": ("/etc/a.tif", GOOD, 400, "plain file name"),
    "up in full width": ("．．／a.tif", GOOD, 400, "plain file name"),
    "a stream": ("a.tif:b.tif", GOOD, 400, "plain file name"),
    "GDAL's own file systems": ("/vsicurl/http://127.0.0.1/a.tif", GOOD, 400, "plain file name"),
    "a null byte": ("a\0.tif", GOOD, 400, "plain file name"),
    "a line break": ("a\r\nSet-Cookie: x=1.tif", GOOD, 400, "plain file name"),
    "hidden": (".a.tif", GOOD, 400, "plain file name"),
    "nothing but a suffix": (".tif", GOOD, 400, "plain file name"),
    "an option": ("-rf.tif", GOOD, 400, "plain file name"),
    "a device": ("CON.tif", GOOD, 400, "plain file name"),
    "huge": ("a" * 300 + ".tif", GOOD, 400, "120 bytes"),
    "a mask": ("town_mask.tif", GOOD, 400, "not a mask's"),
    "a prediction": ("town.classes.tif", GOOD, 400, "not a mask's"),
    "a name that is there": ("there.tif", GOOD, 409, "there already"),
    "the same in capitals": ("THERE.TIF", GOOD, 409, "there already"),
    "the same by the other suffix": ("there.tiff", GOOD, 409, "there already"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen") / "folder"
    write_raster(folder / "town.tif", np.full((40, 40, 3), 90, np.uint8))
    (folder / "uploaded").mkdir()
    (folder / "uploaded" / "there.tif").write_bytes(geotiff(20))
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with running(folder, "--max-upload", CAP) as address:
        yield address


@pytest.fixture(autouse=True)
def nothing_else(folder):
    """Whatever is refused leaves all as it was; what is taken is put away by its test."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield
    for _ in range(100):  # somebody who went away is noticed a little later
        after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        if after == before:
            return
        time.sleep(0.05)
    assert set(after) == set(before)
    assert after == before


def send(server, name, body, *, headers=None, chunks=None, query=None):
    """Post a file as the page does; without its length if it goes in chunks."""
    place = urlsplit(server)
    lines = {"Host": place.netloc, "Origin": f"http://{place.netloc}", "Connection": "close"} | (headers or {})
    if chunks is None:
        lines.setdefault("Content-Length", str(len(body)))
    else:
        lines["Transfer-Encoding"] = "chunked"
    target = query if query is not None else f"name={quote(name, safe='')}"
    head = f"POST /upload?{target} HTTP/1.1\r\n"
    head += "".join(f"{key}: {value}\r\n" for key, value in lines.items() if value is not None)
    with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it answers before it has heard all
            connection.sendall(head.encode("latin-1") + b"\r\n")
            if chunks is None:
                connection.sendall(body)
            else:
                for start in range(0, len(body), chunks):
                    part = body[start : start + chunks]
                    connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                connection.sendall(b"0\r\n\r\n")
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 16):
                parts.append(part)
    return Answer(b"".join(parts))


@pytest.mark.parametrize("case", REFUSED)
def test_refused_uploads_say_why_in_a_line(server, case):
    name, body, status, says = REFUSED[case]
    answer = send(server, name, body)
    line = answer.body.decode()
    assert (answer.status, line.count("\n")) == (status, 1), line
    assert says in line
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "/tmp" not in line  # noqa: S108  # where the folder lies is nobody's business
    assert ".upload-" not in line


def test_too_much_is_refused_while_it_comes(server):
    answer = send(server, "a.tif", GOOD + bytes(40 * CAP), chunks=50_000)
    assert answer.status in {413, 0}, "0 where the connection was closed on who went on sending"


def test_a_length_that_is_too_much_is_refused_before_anything_comes(server):
    answer = send(server, "a.tif", b"", headers={"Content-Length": str(CAP + 1)})
    assert (answer.status, b"at most" in answer.body) == (413, True)


def test_who_goes_away_leaves_nothing(server):
    place = urlsplit(server)
    for _ in range(6):  # more than may come at once: they don't count for ever
        with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
            head = f"POST /upload?name=a.tif HTTP/1.1\r\nHost: {place.netloc}\r\nOrigin: http://{place.netloc}\r\n"
            connection.sendall(head.encode() + b"Content-Length: 50000\r\n\r\n" + GOOD[:9000])
    time.sleep(0.3)
    assert send(server, "a.vrt", b"").status == 400


@pytest.mark.parametrize("headers", [{"Origin": None}, {"Origin": "null"}, {"Origin": "http://evil.example"}, {"Host": "evil.example"},
                                     {"Origin": "https://127.0.0.1"}])  # fmt: skip
def test_no_other_page_uploads(server, headers):
    nothing = ask(server, "/nothing")
    answer = send(server, "a.tif", GOOD, headers=headers)
    assert (answer.status, answer.body) == (404, nothing.body)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_nothing_but_posting_is_there(server, method):
    origin = {"Origin": "http://" + urlsplit(server).netloc}
    assert ask(server, "/upload?name=a.tif", method=method, headers=origin).status == 404


@pytest.mark.parametrize("query", ["", "name=a.tif&name=b.tif", "path=/etc/passwd", "name="])
def test_one_name_is_wanted(server, query):
    assert send(server, "", GOOD, query=query).status == 400


@pytest.mark.parametrize("chunks", [None, 7_000])
@pytest.mark.parametrize(("sent", "kept"), [("a.tif", "a.tif"), ("Łódź #2 <b>.TIF", "Łódź _2 _b_.tif"), ("x" * 116 + ".tiff", "x" * 116 + ".tiff")])  # fmt: skip
def test_a_good_one_lands_whole_and_is_shown_at_once(server, folder, sent, kept, chunks):
    answer = send(server, sent, GOOD, chunks=chunks)
    assert answer.status == 200, answer.body
    told = json.loads(answer.body)
    path = folder / "uploaded" / kept
    assert told["name"] == kept
    assert path.read_bytes() == GOOD
    assert kept.rpartition(".")[0].encode() in ask(server, f"/?place={told['place']}").body
    path.unlink()


def test_of_two_at_once_one_gets_the_name(server, folder):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(send(server, "a.tif", GOOD))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status for answer in answers) == [200, 409, 409, 409]
    assert (folder / "uploaded" / "a.tif").read_bytes() == GOOD
    (folder / "uploaded" / "a.tif").unlink()


def test_without_the_token_nothing_is_taken(folder):
    with running(folder, "--host", "0.0.0.0", "--max-upload", CAP) as address:  # noqa: S104  # what is tested
        page, _, token = address.partition("?token=")
        local = "http://127.0.0.1:" + page.rstrip("/").rpartition(":")[2]
        assert send(local, "a.tif", GOOD).status == 401
        assert send(local, "", GOOD, query=f"name=a.tif&token={token}").status == 401
        cookie = ask(local, f"/?token={token}").headers["set-cookie"].partition(";")[0]
        assert send(local, "a.vrt", GOOD, headers={"Cookie": cookie}).status == 400


@pytest.mark.parametrize("options", [("--read-only",), ("--max-upload", "0")])
def test_nothing_is_taken_where_nothing_may_be_written(folder, options):
    with running(folder, *options) as address:
        assert send(address, "a.tif", GOOD).status == 404
        page = ask(address, "/").body
        assert b"satmask-file" not in page
        assert (b"Correct" in page) is False  # a plain image has no classes
        assert (b"Run" in page) is (options[0] != "--read-only")


def test_a_link_that_leads_out_is_not_followed(tmp_path):
    shown, outside = tmp_path / "shown", tmp_path / "outside"
    outside.mkdir()
    write_raster(shown / "town.tif", np.full((40, 40, 3), 90, np.uint8))
    (shown / "uploaded").symlink_to(outside)
    with running(shown) as address:
        assert send(address, "a.tif", GOOD).status == 404
    assert list(outside.iterdir()) == []


def test_drafts_of_a_server_that_died_are_put_away(tmp_path):
    uploads = Uploads(tmp_path, most_bytes=CAP)
    old, young = (uploads.folder / f".upload-{name}.part" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 2 * OLD_S,) * 2)
    with uploads.begin("a.tif") as draft:
        draft.write(GOOD)
    assert sorted(path.name for path in uploads.folder.iterdir()) == [young.name]


def test_more_than_a_few_at_once_are_sent_away(tmp_path):
    uploads = Uploads(tmp_path, most_bytes=CAP, at_once=2)
    with uploads.begin("a.tif"), uploads.begin("b.tif"):
        with pytest.raises(UploadError) as caught:
            uploads.begin("c.tif")
        assert caught.value.code == 503
    with uploads.begin("c.tif"):
        pass


def test_a_name_is_a_name_of_its_own_whatever_is_sent():
    alphabet = [*"ab.-_ ~$%&#'\"<>|*?;\n\0/\\:é漢\u202e\ud800", ".tif", "..", "con"]
    random = np.random.default_rng(1)
    made = 0
    for _ in range(3000):
        text = "".join(random.choice(alphabet, random.integers(1, 9))) + ".tif"
        try:
            name = safe_name(text)
        except UploadError:
            continue
        made += 1
        assert safe_name(name) == name
        assert not set(name) & set("/\\:%\0\n\u202e<>|*?\"'&;")
        assert name[0] not in ".-"
        assert name.encode()
    assert made > 200


def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch):
    uploads = Uploads(tmp_path, most_bytes=CAP)

    class Full(io.BytesIO):
        def write(self, part):
            raise OSError(28, "No space left on device")

    with uploads.begin("a.tif") as draft:
        draft._file.close()
        monkeypatch.setattr(draft, "_file", Full())
        with pytest.raises(UploadError, match="No space left") as caught:
            draft.write(GOOD)
    assert caught.value.code == 413
    assert list(uploads.folder.iterdir()) == []
