"""Vector files: the same bytes and an index, whatever was loaded before."""

import subprocess
import sys

import pytest

from test_structure import SOURCE

WRITE = """
import sys
import geopandas, shapely
from satmask.polygon_writer import PolygonWriter
from satmask.polygons import write_polygons
from satmask.vector_io import pyogrio
pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "1970-01-01T00:00:00.000Z"})
frame = geopandas.GeoDataFrame({"class_id": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs="EPSG:3857")
write_polygons(frame, sys.argv[1])
assert pyogrio.read_info(sys.argv[1])["capabilities"]["fast_spatial_filter"]
"""


@pytest.mark.parametrize(
    "before",
    [pytest.param("import tensorflow", marks=pytest.mark.slow), "import keras", "import rasterio, onnxruntime"],
)
def test_geopackages_have_their_index_whatever_was_loaded_before(tmp_path, before):
    contents = set()
    for name, lines in (("alone", WRITE), ("after", f"{before}\n{WRITE}"), ("then", f"{WRITE}\n{before}")):
        path = tmp_path / name / "a.gpkg"
        path.parent.mkdir()
        subprocess.run([sys.executable, "-c", lines, str(path)], check=True, capture_output=True)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_pyogrio_is_loaded_in_one_place():
    """A module that loads it by itself may be the first to, after TensorFlow."""
    for path in SOURCE.rglob("*.py"):
        if path.name != "vector_io.py":
            assert "import pyogrio" not in path.read_text().replace("vector_io import pyogrio", ""), path
            assert "from pyogrio" not in path.read_text(), path
