"""Scenes that somebody damaged, or made to harm: one clear error, or the right pixels; never a crash, never much memory.

`make faults` runs this; `tests/test_scene_safety.py` holds a few of each.
"""

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine

from satmask.errors import SatmaskError, SceneError
from satmask.scene import Scene
from satmask.tiff_directory import read_directories
from satmask.windows import Window

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}
LAYOUTS = {
    **{
        f"{codec} {name}": {"compress": codec, "interleave": "pixel", **layout}
        for codec in ("none", "lzw", "deflate", "zstd", "packbits", "jpeg", "webp", "lerc", "lerc_deflate", "lzma")
        for name, layout in (("tiles", TILED), ("strips", {}))
    },
    "deflate bands": {"compress": "deflate", "interleave": "band", **TILED},
    "none bands": {"compress": "none", "interleave": "band", **TILED},
    "deflate big": {"compress": "deflate", "bigtiff": "YES", **TILED},
    "deflate big endian": {"compress": "deflate", "endianness": "BIG", **TILED},
    "deflate uint16 difference": {"dtype": "uint16", "compress": "deflate", "predictor": 2, **TILED},
    "deflate float32 difference": {"dtype": "float32", "compress": "deflate", "predictor": 3, **TILED},
    "lzw int16": {"dtype": "int16", "compress": "lzw", **TILED},
    "none float64": {"dtype": "float64", **TILED},
}
# Where a flipped bit of a block can be known: sums of DEFLATE and LERC.
SUMMED = ("deflate", "lerc")
MUTANTS = 8  # of each kind and layout: 28 × 3 × 8 = 672


@dataclass(frozen=True)
class Truth:
    """A file as it was written, and what is in it."""

    content: bytes
    values: np.ndarray
    data: int  # where the blocks begin


@pytest.fixture(scope="module")
def truths(tmp_path_factory):
    """All layouts, written once."""
    folder = tmp_path_factory.mktemp("layouts")
    return {name: _truth(folder / f"{number}.tif", options) for number, (name, options) in enumerate(LAYOUTS.items())}


def _truth(path, options):
    rows, columns = np.mgrid[:150, :170]
    wave = np.stack([np.sin(columns / 9 + band) * 40 + np.cos(rows / 7) * 40 + 128 for band in range(3)], axis=-1)
    values = (wave + np.random.default_rng(0).integers(0, 9, wave.shape)).astype(options.get("dtype", "uint8"))
    settings = {"driver": "GTiff", "height": 150, "width": 170, "count": 3, "crs": "EPSG:32633", "dtype": values.dtype}
    with rasterio.open(path, "w", transform=Affine(1, 0, 5e5, 0, -1, 4e6), **settings | options) as file:
        file.write(np.moveaxis(values, -1, 0))
    with Scene(path) as scene:
        values = scene.read(Window(0, 0, 150, 170)).values
    blocks = min(int(directory.offsets.min()) for directory in read_directories(path))
    return Truth(path.read_bytes(), values, blocks)


def outcome(path, truth):
    """What reading a file came to: "error", "right" or "wrong"; anything but a clear error fails the test."""
    try:
        with Scene(path, verify=True) as scene:
            _ = scene.grid, scene.sample()
            found = scene.read(Window(0, 0, *scene.shape))
    except SatmaskError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert path.name in said
        assert len(said) < 500
        assert "\n" not in said
        return "error"
    same = found.values.shape == truth.values.shape and (found.values == truth.values).all() and found.valid.all()
    return "right" if same else "wrong"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncated_files_never_give_wrong_pixels(truths, layout, tmp_path):
    truth, random, path = truths[layout], np.random.default_rng(1), tmp_path / "cut.tif"
    lengths = {*random.integers(0, len(truth.content), MUTANTS - 2).tolist(), len(truth.content) - 1, truth.data + 1}
    for length in lengths:
        path.write_bytes(truth.content[:length])
        assert outcome(path, truth) in ("error", "right"), f"cut to {length} bytes"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flipped_bits_of_blocks_are_known_where_they_can_be(truths, layout, tmp_path):
    truth, random, path = truths[layout], np.random.default_rng(2), tmp_path / "flipped.tif"
    for _ in range(MUTANTS):
        content = bytearray(truth.content)
        place = int(random.integers(truth.data, len(content)))
        content[place] ^= 1 << int(random.integers(8))
        path.write_bytes(content)
        found = outcome(path, truth)
        if layout.startswith(SUMMED):
            assert found in ("error", "right"), f"bit flipped in byte {place}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_edited_directories_never_crash(truths, layout, tmp_path):
    truth, random, path = truths[layout], np.random.default_rng(3), tmp_path / "edited.tif"
    for number in range(MUTANTS):
        content = bytearray(truth.content)
        head = max(truth.data, 9)
        for place in random.integers(4, head, 1 + number % 4):
            content[place] = int(random.integers(256))
        path.write_bytes(content)
        outcome(path, truth)


# -- bombs -------------------------------------------------------------------------------------------------------------


def tiff(width, height, block, *, samples=1, compression=8, planar=1, count=None, data=b"", bits=8, strips=False):
    """A TIFF file by hand, all of whose blocks are one; `count` is the number of blocks that it names."""
    down, across = -(-height // block[0]), -(-width // block[1])
    count = down * across * (samples if planar == 2 else 1) if count is None else count
    layout = [(278, block[0])] if strips else [(322, block[1]), (323, block[0])]
    fields = [(256, width), (257, height), (258, bits), (259, compression), (262, 1), (277, samples), (284, planar)]
    entries = [(tag, 4, 1, value) for tag, value in [*fields, *layout]]
    lists = 8 + 2 + 12 * (len(entries) + 2) + 4
    place = lists + (8 * count if count > 1 else 0)
    where, sizes = (273, 279) if strips else (324, 325)
    entries += [(where, 4, count, lists if count > 1 else place)]
    entries += [(sizes, 4, count, lists + 4 * count if count > 1 else len(data))]
    packed = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    content = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + packed + struct.pack("<I", 0)
    if count > 1:
        content += np.full(count, place, "<u4").tobytes() + np.full(count, len(data), "<u4").tobytes()
    return content + data


def zeros(count):
    """So many zeros, packed."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(2**20)) for _ in range(count >> 20)]
    return b"".join([*parts, packer.flush()])


def png(width, height, *, interlaced=0, colour=2):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlaced)
    data = chunk(b"IDAT", zeros(2**22))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + data + chunk(b"IEND", b"")


def jpeg(width, height, *, progressive=False):
    """A small JPEG that says that it is large."""
    kind = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    content = bytearray(cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), kind)[1].tobytes())
    place = content.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def webp(width, height):
    """A small lossless WebP that says that it is large."""
    content = bytearray(cv2.imencode(".webp", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 101])[1])
    place = content.index(b"VP8L") + 9
    bits = struct.unpack_from("<I", content, place)[0]
    struct.pack_into("<I", content, place, bits & ~0xFFFFFFF | (width - 1) | (height - 1) << 14)
    return bytes(content)


def vrt(content):
    return f'<VRTDataset rasterXSize="64" rasterYSize="64">{content}</VRTDataset>'.encode()


BOMBS = {
    "a block of 1 GiB.tif": lambda: tiff(32768, 32768, (32768, 32768), data=zeros(2**30)),
    "a strip of 1 GiB.tif": lambda: tiff(32768, 32768, (32768, 32768), data=zeros(2**30), strips=True, count=1),
    "a block of 2 to the 60.tif": lambda: tiff(2**31 - 1, 2**31 - 1, (2**30, 2**30), count=9),
    "a wide strip.tif": lambda: tiff(2**31 - 1, 4, (1, 2**31 - 1), strips=True),
    "60,000 bands.tif": lambda: tiff(64, 64, (64, 64), samples=60_000, data=zeros(64 * 64 * 60_000)),
    "60,000 planes.tif": lambda: tiff(64, 64, (64, 64), samples=60_000, planar=2, data=zeros(2**20)),
    "too few blocks.tif": lambda: tiff(10**6, 10**6, (256, 256), count=4),
    "a list beyond the end.tif": lambda: tiff(10**6, 10**6, (16, 16), count=1)[:150],
    "bits.tif": lambda: tiff(8192, 8192, (8192, 8192), bits=60_000, data=b"x"),
    "zstd.tif": lambda: tiff(60_000, 60_000, (60_000, 60_000), compression=50000, data=b"(\xb5/\xfd" + bytes(99)),
    "a raw block.tif": lambda: tiff(30_000, 30_000, (30_000, 30_000), compression=1, data=b"x"),
    "jpeg in a block.tif": lambda: tiff(65_000, 65_000, (65_000, 65_000), compression=7, data=jpeg(65_000, 65_000)),
    "large.png": lambda: png(2**31 - 1, 2**31 - 1),
    "wide.png": lambda: png(2**28, 2),
    "interlaced.png": lambda: png(60_000, 60_000, interlaced=1),
    "grey.png": lambda: png(100_000, 100_000, colour=0),
    "large.jpg": lambda: jpeg(65_500, 65_500),
    "progressive.jpg": lambda: jpeg(65_500, 65_500, progressive=True),
    "large.webp": lambda: webp(16_383, 16_383),
    "entities.vrt": lambda: (
        b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(9))
        + b"]><VRTDataset>&j;</VRTDataset>"
    ),
    "bands.vrt": lambda: vrt('<VRTRasterBand dataType="Byte"/>' * 50_000),
    "empty.img": lambda: b"EHFA_HEADER_TAG\0" + bytes(99),
    "empty.jp2": lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 99,
}
WATCH = """
import resource, sys
from satmask import SatmaskError
from satmask.scene import Scene
from satmask.windows import Window
import rasterio, pyproj
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with Scene(sys.argv[1], verify=True) as scene:
        scene.read(Window(0, 0, 64, 64))
        scene.sample()
    print("read")
except SatmaskError as error:
    print("error", error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def watch(path, **environment):
    """Read a scene in a process of its own; returns what it said, and by how many MiB its memory grew."""
    result = subprocess.run(
        [sys.executable, "-c", WATCH, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    said, grown = result.stdout.rstrip().rsplit("\n", 1)
    return said, int(grown) / 1024


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_take_memory(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BOMBS[name]())
    assert path.stat().st_size < 2**23
    said, grown = watch(path)
    assert said.startswith("error "), said
    assert path.name in said
    assert grown < 128


def test_what_is_large_is_read_where_the_user_allows_it(tmp_path):
    path = tmp_path / "block.tif"
    path.write_bytes(tiff(12_000, 12_000, (12_000, 12_000), data=zeros(12_000 * 12_000 + 2**20)))
    assert watch(path)[0].startswith("error Scene must be stored in blocks")
    assert watch(path, SATMASK_ALLOW="huge")[0] != watch(path)[0]


def test_a_large_scene_of_small_blocks_is_no_bomb(tmp_path):
    path = tmp_path / "sparse.tif"
    settings = {"driver": "GTiff", "dtype": "uint8", "height": 100_000, "width": 100_000, "count": 3, **TILED}
    settings |= {"blockxsize": 512, "blockysize": 512, "sparse_ok": True, "bigtiff": "YES"}
    with rasterio.open(path, "w", **settings) as file:
        file.write(np.full((3, 512, 512), 7, np.uint8), window=rasterio.windows.Window(0, 0, 512, 512))
    said, grown = watch(path)
    assert said == "read"
    assert grown < 128
    with Scene(path) as scene:
        assert re.search(r"aren't there", " ".join(scene.doubts))


# -- strings -----------------------------------------------------------------------------------------------------------

HOSTILE = [
    "/vsicurl/http://127.0.0.1:{port}/a.tif",
    "/vsicurl_streaming/http://127.0.0.1:{port}/a.tif",
    "/vsicurl?url=http://127.0.0.1:{port}/a.tif",
    "/vsis3/bucket/a.tif",
    "/vsizip//vsicurl/http://127.0.0.1:{port}/a.zip/a.tif",
    "/vsisubfile/0_1000,/vsicurl/http://127.0.0.1:{port}/a.tif",
    "/vsistdin/",
    "/vsimem/a.tif",
    "GTIFF_DIR:1:{secret}",
    "GTIFF_RAW:{secret}",
    "HDF5:{secret}://a",
    "NETCDF:{secret}:a",
    "WMS:http://127.0.0.1:{port}/a",
    "WCS:http://127.0.0.1:{port}/a",
    "zip://{secret}",
    "file://{secret}",
    "vrt://{secret}?bands=1",
    "derived_subdataset:LOGAMPLITUDE:{secret}",
    "JPEG_SUBFILE:1,2,{secret}",
    "<VRTDataset rasterXSize='9' rasterYSize='9'></VRTDataset>",
    "MEM:::DATAPOINTER=1234,PIXELS=10,LINES=10",
    "DERIVED_SUBDATASET:AMPLITUDE:{secret}",
    "ftp://127.0.0.1:{port}/a.tif",
    "{secret}\0.tif",
]


@pytest.fixture
def secret(data):
    return data / "rasters" / "panchromatic_uint16.tif"


@pytest.fixture
def listener():
    """A port where somebody would notice a request."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("text", HOSTILE)
def test_strings_of_gdal_reach_nothing(text, secret, listener, tmp_path, monkeypatch):
    from satmask.datasets.dataset import Problem
    from satmask.errors import SettingError
    from satmask.scene_lists import find_scenes
    from satmask.stack import open_imagery

    monkeypatch.chdir(tmp_path)
    name = text.format(secret=secret, port=listener.getsockname()[1])
    with pytest.raises(SatmaskError):
        open_imagery(name)
    (tmp_path / "list.txt").write_text(name + "\n")
    problems: list[Problem] = []
    try:
        found = find_scenes(["list.txt"], problems=problems)
    except SettingError:
        found = []
    for scene in found:
        with pytest.raises(SceneError):
            open_imagery(scene)


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\0" not in text])
@pytest.mark.parametrize("relative", ["0", "1"])
def test_vrt_files_reach_nothing(text, relative, secret, listener, tmp_path):
    name = text.format(secret=secret, port=listener.getsockname()[1]).replace("&", "&amp;").replace("<", "&lt;")
    source = f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename></SimpleSource>'
    path = tmp_path / "a.vrt"
    path.write_bytes(vrt(f'<VRTRasterBand dataType="UInt16" band="1">{source}</VRTRasterBand>'))
    with pytest.raises(SceneError, match=r"beside or below.*a\.vrt"):
        Scene(path)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".jp2", ".webp", ".img", "", ".json", ".xml"])
@pytest.mark.parametrize("kind", ["vrt", "wms", "stacta", "esri", "gti"])
def test_text_under_another_name_is_no_scene(suffix, kind, secret, listener, tmp_path):
    port = listener.getsockname()[1]
    source = f"<SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource>"
    content = {
        "vrt": vrt(f'<VRTRasterBand dataType="UInt16" band="1">{source}</VRTRasterBand>').decode(),
        "wms": f"<GDAL_WMS><Service><ServerUrl>http://127.0.0.1:{port}/</ServerUrl></Service></GDAL_WMS>",
        "stacta": json.dumps({"type": "Feature", "asset_templates": {"a": {"href": f"http://127.0.0.1:{port}/"}}}),
        "esri": json.dumps({"tileInfo": {"rows": 256}, "url": f"http://127.0.0.1:{port}/"}),
        "gti": f"<GDALTileIndexDataset><IndexDataset>{secret}</IndexDataset></GDALTileIndexDataset>",
    }[kind]
    path = Path(tmp_path, f"a{suffix}")
    path.write_text(content)
    with pytest.raises(SceneError, match="a"):
        Scene(path)
