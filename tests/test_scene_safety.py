"""Files that lack a part, take too much memory, or reach for other files; `tests/faults` holds many more of each."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import rasterio
from affine import Affine

from satmask import checksums
from satmask.errors import SceneError
from satmask.permissions import VARIABLE, allow, allowed
from satmask.scene import Scene
from satmask.tiff_directory import TiffError, read_directories
from satmask.windows import Window

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

LAYOUTS = {
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64},
    "strips": {"blockysize": 16},
    "one strip": {"blockysize": 150},
    "bands": {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "band"},
    "big": {"tiled": True, "blockxsize": 64, "blockysize": 64, "bigtiff": "YES"},
    "big endian": {"blockysize": 16, "endianness": "BIG"},
}


def write(path, values=None, **options):
    values = np.random.default_rng(0).integers(1, 200, (150, 170, 3)).astype(np.uint8) if values is None else values
    height, width, count = values.shape
    settings = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": values.dtype}
    place = Affine(1, 0, 5e5, 0, -1, 4e6)
    with rasterio.open(
        path, "w", transform=place, crs="EPSG:32633", **settings | {"interleave": "pixel"} | options
    ) as file:
        file.write(np.moveaxis(values, -1, 0))
    return path


def read(scene):
    return scene.read(Window(0, 0, *scene.shape)).values


# -- blocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", ["none", "deflate", "lzw"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_directories_say_what_gdal_says(tmp_path, layout, compress):
    path = write(tmp_path / "a.tif", compress=compress, **LAYOUTS[layout])
    (found,) = read_directories(path)
    if found.in_parts and layout == "one strip":
        return  # GDAL tells of parts of it
    with rasterio.open(path) as file:
        assert (found.height, found.width, found.samples, found.bits) == (*file.shape, 3, 8)
        assert found.block == file.block_shapes[0]
        rows, columns = -(-150 // found.block[0]), -(-170 // found.block[1])
        for row in range(rows):
            for column in range(columns):
                name = f"{column}_{row}"
                index = row * columns + column
                assert int(file.get_tag_item(f"BLOCK_OFFSET_{name}", "TIFF", bidx=1)) == found.offsets[index]
                assert int(file.get_tag_item(f"BLOCK_SIZE_{name}", "TIFF", bidx=1)) == found.counts[index]
    assert found.blocks == len(found.offsets)
    assert (found.absent(), found.beyond(path.stat().st_size), found.overlapping()) == (0, 0, 0)


@pytest.mark.parametrize("compress", ["none", "deflate", "jpeg"])
@pytest.mark.parametrize("layout", ["tiles", "strips", "one strip", "big"])
def test_a_file_without_its_end_is_refused_at_opening(tmp_path, layout, compress):
    whole = write(tmp_path / "a.tif", compress=compress, **LAYOUTS[layout]).read_bytes()
    path = tmp_path / "cut.tif"
    for length in (len(whole) - 1, len(whole) * 3 // 4, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(SceneError, match=r"whole.*cut\.tif"):
            Scene(path)


def test_a_last_strip_that_counts_rows_too_many_is_whole(tmp_path):
    path = write(tmp_path / "a.tif", blockysize=64)
    (directory,) = read_directories(path)
    content = bytearray(path.read_bytes())
    last, full = struct.pack("<H", directory.counts[-1]), struct.pack("<H", directory.block_bytes)
    place = content.index(struct.pack("<3H", *directory.counts.tolist()))
    assert content[place + 4 : place + 6] == last
    content[place + 4 : place + 6] = full
    path.write_bytes(content)
    with Scene(path) as scene:
        assert read(scene).shape == (150, 170, 3)


def test_missing_and_overlapping_blocks_are_doubted(tmp_path):
    path = tmp_path / "sparse.tif"
    settings = {"driver": "GTiff", "height": 256, "width": 256, "count": 1, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(path, "w", **settings, **LAYOUTS["tiles"]) as file:
        file.write(np.ones((1, 64, 64), np.uint8), window=rasterio.windows.Window(64, 64, 64, 64))
    with Scene(path) as scene:
        assert [doubt.split(" aren't")[0] for doubt in scene.doubts] == ["15 of 16 blocks of sparse.tif"]
    whole = write(tmp_path / "a.tif", compress="deflate", **LAYOUTS["tiles"])
    (directory,) = read_directories(whole)
    content, offsets = bytearray(whole.read_bytes()), directory.offsets.astype("<u4").tobytes()
    place = content.index(offsets)
    content[place : place + 4] = struct.pack("<I", directory.offsets[1] + 1)
    whole.write_bytes(content)
    with Scene(whole) as scene:
        assert "2 blocks of a.tif lie over others" in scene.doubts[0]


def test_overviews_and_masks_must_be_whole_too(tmp_path):
    path = write(tmp_path / "a.tif", np.full((600, 600, 1), 7, np.uint8), **LAYOUTS["tiles"])
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4])
    assert len(read_directories(path)) == 3
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(SceneError, match=r"(mask or an overview|ends beyond).*a\.tif"):
        Scene(path)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("options", [{}, {"predictor": 2}, {"interleave": "band"}], ids=str)
@pytest.mark.parametrize("worth_bytes", [1, 1 << 16])
def test_no_flipped_bit_of_a_deflate_block_is_missed(tmp_path, monkeypatch, seed, options, worth_bytes):
    monkeypatch.setattr(checksums, "WORTH_BYTES", worth_bytes)
    path = write(tmp_path / "a.tif", compress="deflate", **LAYOUTS["tiles"] | options)
    with Scene(path) as scene:
        want = read(scene)
    content, random = bytearray(path.read_bytes()), np.random.default_rng(seed)
    content[int(random.integers(read_directories(path)[0].offsets.min(), len(content)))] ^= 1 << int(random.integers(8))
    path.write_bytes(content)
    with Scene(path, verify=True) as scene:
        try:
            found = read(scene)
        except SceneError as error:
            assert "a.tif" in str(error)  # noqa: PT017  # either an error, or the right pixels
        else:
            assert (found == want).all()


@pytest.mark.parametrize("worth_bytes", [1, 1 << 16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_deflate_files_pass_their_checksums(tmp_path, monkeypatch, layout, worth_bytes):
    monkeypatch.setattr(checksums, "WORTH_BYTES", worth_bytes)
    path = write(tmp_path / "a.tif", compress="deflate", **LAYOUTS[layout])
    with Scene(path) as plain, Scene(path, verify=True, bands=[3, 1]) as scene:
        assert (
            scene.read(Window(100, 60, 90, 200)).values == plain.read(Window(100, 60, 90, 200)).values[..., [2, 0]]
        ).all()
        assert (read(scene) == read(plain)[..., [2, 0]]).all()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32"])
@pytest.mark.parametrize("options", [{}, {"predictor": 2}, {"interleave": "band"}], ids=str)
def test_only_tiles_at_the_edge_are_decoded_a_second_time(tmp_path, monkeypatch, dtype, options):
    monkeypatch.setattr(checksums, "WORTH_BYTES", 1)
    looked = []
    monkeypatch.setattr(checksums.Checksums, "_look_at", lambda _, index: looked.append(index))
    values = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (128, 150, 3)).astype(dtype)
    layout = {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel"} | options
    with Scene(write(tmp_path / "a.tif", values, compress="deflate", **layout), verify=True) as scene:
        scene.read(Window(10, 10, 100, 139))
    assert looked == ([2, 5, 8, 11, 14, 17] if options.get("interleave") == "band" else [2, 5])


def test_directories_by_hand_are_errors_and_never_crash(tmp_path):
    whole, path = write(tmp_path / "a.tif", compress="deflate").read_bytes(), tmp_path / "b.tif"
    random, place = np.random.default_rng(0), int(read_directories(tmp_path / "a.tif")[0].offsets.min())
    for _ in range(300):
        content = bytearray(whole)
        for at in random.integers(2, place, 3):
            content[at] = int(random.integers(256))
        path.write_bytes(content)
        try:
            assert read_directories(path)[0].blocks > 0
        except TiffError as error:
            assert len(str(error)) < 100  # noqa: PT017  # an error, or a directory


def test_directories_that_go_round_end(tmp_path):
    entries = [(256, 4, 1, 8), (257, 4, 1, 8), (273, 4, 1, 8), (279, 4, 1, 64)]
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, 4) + packed + struct.pack("<I", 8))
    assert len(read_directories(tmp_path / "a.tif")) == 1


# -- memory ------------------------------------------------------------------------------------------------------------


def bomb(path, side, samples=1):
    """One block of zeros that takes `side`² × `samples` bytes."""
    data = zlib.compress(bytes(2**20)) if side > 2**10 else zlib.compress(bytes(side * side * samples))
    fields = [(256, side), (257, side), (258, 8), (259, 8), (262, 1), (277, samples), (322, side), (323, side)]
    place = 8 + 2 + 12 * (len(fields) + 2) + 4
    fields += [(324, place), (325, len(data))]
    packed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(fields)) + packed + struct.pack("<I", 0) + data)
    return path


def test_blocks_are_measured_before_they_are_decoded(tmp_path):
    code = (
        "import resource, sys\nfrom satmask.scene import Scene\nfrom satmask.errors import SceneError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]:\n"
        "    try: Scene(path)\n"
        "    except SceneError as error: print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    paths = [bomb(tmp_path / "block.tif", 2**17), bomb(tmp_path / "bands.tif", 16, 60_000)]
    run = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, timeout=60, check=True)
    block, bands, grown = run.stdout.strip().split("\n")
    assert block.startswith("Scene must be stored in blocks of at most 64 MiB, got 16,384 MiB")
    assert block.endswith("--allow-huge.")
    assert bands.startswith("Scene must have at most 2,048 bands, got 60,000 in bands.tif.")
    assert int(grown) < 32


def test_what_is_large_is_read_if_the_user_says_so(tmp_path, monkeypatch):
    path = bomb(tmp_path / "a.tif", 16, 3000)
    with pytest.raises(SceneError, match="2,048 bands"):
        Scene(path)
    monkeypatch.setenv(VARIABLE, "")
    allow("huge")
    assert allowed("huge")
    assert not allowed("remote")
    with Scene(path, bands=[1]) as scene:
        assert scene.read(Window(0, 0, 16, 16)).valid.all()


def test_a_sample_of_a_large_scene_decodes_little(tmp_path):
    path = tmp_path / "large.tif"
    settings = {"driver": "GTiff", "height": 60_000, "width": 60_000, "count": 1, "dtype": "uint8", "sparse_ok": True}
    with rasterio.open(path, "w", **settings, tiled=True, nodata=0) as file:
        file.write(np.full((1, 64, 64), 9, np.uint8), window=rasterio.windows.Window(4000, 59_000, 64, 64))
        # What only the second, denser look finds: a place of 16 × 16.
        at = (60_000 - 16) * 7 // 15
        file.write(np.full((1, 16, 16), 5, np.uint8), window=rasterio.windows.Window(at, at, 16, 16))
    with Scene(path) as scene:
        assert scene.sample().ravel().tolist() == [5] * 256


def test_a_large_strip_that_is_not_compressed_is_no_bomb(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (9000, 9000, 1), np.uint8)
    path = write(tmp_path / "a.tif", values, blockysize=9000)
    assert read_directories(path)[0].block_bytes > 2**26
    with Scene(path) as scene:
        window = Window(8000, 8000, 500, 500)
        assert (scene.read(window).values == values[window.slices]).all()


# -- other files -------------------------------------------------------------------------------------------------------


def mosaic(path, source, *, relative="1", extra=""):
    path.write_text(
        '<VRTDataset rasterXSize="170" rasterYSize="150">'
        f'{extra}<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename relativeToVRT="{relative}">{source}'
        "</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    return path


def test_a_mosaic_of_files_below_it_is_a_scene(tmp_path):
    (tmp_path / "tiles").mkdir()
    source = write(tmp_path / "tiles" / "a.tif")
    for name, relative in (("tiles/a.tif", "1"), (str(source), "0")):
        with Scene(mosaic(tmp_path / "a.vrt", name, relative=relative)) as scene, Scene(source, bands=[1]) as want:
            assert (read(scene) == read(want)).all()
    with Scene(mosaic(tmp_path / "outer.vrt", "a.vrt")) as scene:
        assert scene.shape == (150, 170)


def test_a_mosaic_of_files_elsewhere_needs_permission(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    write(tmp_path / "a.tif")
    path = mosaic(tmp_path / "inner" / "a.vrt", "../a.tif")
    with pytest.raises(SceneError, match="--allow-outside"):
        Scene(path)
    monkeypatch.setenv(VARIABLE, "outside")
    with Scene(path) as scene:
        assert scene.shape == (150, 170)


@pytest.mark.parametrize("permission", ["", "outside"])
@pytest.mark.parametrize(
    "source",
    ["/vsicurl/http://127.0.0.1:9/a.tif", "/vsizip/a.zip/a.tif", "GTIFF_DIR:1:a.tif", "http://127.0.0.1:9/a.tif"],
)
def test_a_mosaic_names_files_and_nothing_else(tmp_path, source, permission, monkeypatch):
    monkeypatch.setenv(VARIABLE, permission)
    with pytest.raises(SceneError, match=r"beside or below it.*a\.vrt"):
        Scene(mosaic(tmp_path / "a.vrt", source))


def test_a_mosaic_of_what_is_called_otherwise_is_refused(tmp_path):
    write(tmp_path / "a.tif")
    mosaic(tmp_path / "inner.tif", "/etc/hostname", relative="0")
    with pytest.raises(SceneError, match="which is no GTiff file"):
        Scene(mosaic(tmp_path / "a.vrt", "inner.tif"))
    code = "<PixelFunctionType>f</PixelFunctionType><PixelFunctionCode>import os</PixelFunctionCode>"
    with pytest.raises(SceneError, match="PixelFunctionType"):
        Scene(mosaic(tmp_path / "b.vrt", "a.tif", extra=code))
    endless = mosaic(tmp_path / "c.vrt", "c.vrt")
    with pytest.raises(SceneError, match="deep"):
        Scene(endless)


def test_strings_of_gdal_are_names_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    secret = write(tmp_path / "secret.tif", np.full((9, 9, 1), 66, np.uint8))
    write(tmp_path / "a.tif", np.full((9, 9, 1), 7, np.uint8)).rename(tmp_path / "GTIFF_DIR:1:secret.tif")
    with Scene("GTIFF_DIR:1:secret.tif") as scene:
        assert (read(scene) == 7).all()
    with pytest.raises(SceneError, match="must be a file"):
        Scene(f"GTIFF_DIR:1:{secret}")


def test_files_beside_a_scene_change_nothing_but_are_told(tmp_path):
    path = write(tmp_path / "a.tif", np.full((150, 170, 1), 7, np.uint8))
    write(tmp_path / "a.tif.msk", np.zeros((150, 170, 1), np.uint8))
    write(tmp_path / "a.tif.ovr", np.zeros((75, 85, 1), np.uint8))
    (tmp_path / "a.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/etc/hostname</MDI></Metadata></PAMDataset>'
    )
    with Scene(path) as scene:
        pixels = scene.read(Window(0, 0, 150, 170))
        assert pixels.valid.all()
        assert (pixels.values == 7).all()
        assert (scene.shrunk(40).values == 7).all()
        assert [doubt.partition(" beside")[0] for doubt in scene.doubts] == ["a.tif.msk", "a.tif.aux.xml", "a.tif.ovr"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "a.tif.aux.xml", "a.tif.msk", "a.tif.ovr"]


# -- overviews ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elsewhere", ["/vsicurl/http://127.0.0.1:1/x.tif", "other.tif", "/etc/passwd"])
def test_overviews_elsewhere_are_refused(tmp_path, elsewhere):
    # GDAL opens what this tag of a GeoTIFF names when the raster is read at a smaller size.
    path = write(tmp_path / "a.tif")
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=elsewhere)
    with pytest.raises(SceneError, match="must hold its overviews itself"):
        Scene(path)
