"""The rule of dependence: imports point one way, and what must stay light stays light."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import satmask

SOURCE = Path(satmask.__file__).parent
# Each line may import what stands above it, also inside functions; modules of a line don't import one another, except
# those joined by `+`, and packages inside themselves. Imports for types alone don't count.
ORDER = """
errors progress processes shipping vector_io areas
fetching+catalogue fingerprints morphology paths folders addresses buckets permissions tiff_directory legend windows sensors+compositing+augment run figures stretching report timing
pictures refinements merges shapes overviews
alignment bands decisions scaling uncertainty novelty symmetry upsampling vectorise separation simplification squaring
cleaning regularisation strips model_info
grid recipe charts data_charts threshold_charts sheets contact band_sheets registration_sheets maps
losses metrics models
imagery checksums raster_bands soundness
vrt
opening
scene
mirroring stack altered
rasters
masks
labels polygons
polygon_writer
attributes
shaping
features
datasets
scoring
submission survey batches leaks evidence sample_objects stac seams tile_plans
scene_lists
inspection splitting split_files joining
findings inspection_page
model_file+model_card+engines+assembly+rules
fitting
prediction
validation tuning jobs
workers
pools
quantisation
calibration
object_page
run_page
run_report
training
groups
demo
viewing
cli
__main__
"""
LEVELS = {
    part: (level, group)
    for level, line in enumerate(ORDER.split("\n"))
    for group in line.split()
    for part in group.split("+")
}
# `engines` holds the engine that runs Keras files.
MAY_KERAS = {"models", "losses", "metrics", "batches", "engines", "training"}
NEVER_KERAS = [
    "errors",
    "legend",
    "windows",
    "grid",
    "recipe",
    "augment",
    "masks",
    "alignment",
    "bands",
    "scene",
    "stack",
    "labels",
    "rasters",
    "polygons",
    "vectorise",
    "scoring",
    "datasets",
    "submission",
    "survey",
    "prediction",
    "validation",
    "tuning",
    "report",
    "pictures",
    "run",
]
KERAS = {"keras", "tensorflow", "tf2onnx", "jax", "torch"}


class _Imports(ast.NodeVisitor):
    """Names that a module imports, anywhere but under `if TYPE_CHECKING`."""

    def __init__(self):
        self.names = []

    def visit_If(self, node):  # ast's name
        if "TYPE_CHECKING" not in ast.dump(node.test):
            self.generic_visit(node)

    def visit_Import(self, node):  # ast's name
        self.names += [alias.name for alias in node.names]

    def visit_ImportFrom(self, node):  # ast's name
        assert node.level == 0, "imports are absolute"
        if node.module == "satmask":
            # Public names have a home elsewhere; the rest are submodules, or the version.
            self.names += [satmask._HOMES.get(alias.name, f"satmask.{alias.name}") for alias in node.names]
        else:
            self.names.append(node.module)


def part_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def imports():
    """What each part of satmask imports: parts of satmask without the prefix, and other packages by their first name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        visitor = _Imports()
        visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
        mine = found.setdefault(part_of(path), {"satmask": set(), "others": set()})
        for name in visitor.names:
            first, _, rest = name.partition(".")
            part = rest.partition(".")[0]
            if first != "satmask":
                mine["others"].add(first)
            elif part != "__version__":
                mine["satmask"].add(part or "__init__")
    return found


def reached(part):
    """Everything that a part imports, itself or through others."""
    seen, ahead, others = set(), [part], set()
    while ahead:
        here = ahead.pop()
        if here not in seen:
            seen.add(here)
            others |= imports()[here]["others"]
            ahead += imports()[here]["satmask"]
    return others


def test_every_module_has_its_level():
    assert set(imports()) - {"__init__"} == set(LEVELS)


@pytest.mark.parametrize("part", LEVELS)
def test_imports_point_one_way(part):
    level, group = LEVELS[part]
    for other in imports()[part]["satmask"] - {part, "__init__"}:
        assert LEVELS[other][0] < level or LEVELS[other] == (level, group), f"{part} imports {other}"


def test_only_what_trains_imports_keras():
    assert {part for part, names in imports().items() if names["others"] & KERAS} <= MAY_KERAS


@pytest.mark.parametrize("part", NEVER_KERAS)
def test_what_predicts_never_reaches_keras(part):
    assert not reached(part) & KERAS


@pytest.mark.parametrize("part", ["models", "losses", "metrics"])
def test_networks_and_losses_know_no_rasters(part):
    assert not reached(part) & {"rasterio", "geopandas", "pyogrio", "pyproj", "shapely"}


def loaded_by(code):
    """Modules that a fresh Python has loaded after some code."""
    code += "\nimport sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stderr.splitlines()}


@pytest.mark.parametrize("code", ["import satmask", "import satmask.cli", "from satmask import Legend, Window, Recipe"])
def test_importing_satmask_loads_nothing_heavy(code):
    loaded = loaded_by(code)
    assert "satmask" in loaded
    assert not loaded & (KERAS | {"rasterio", "geopandas", "matplotlib", "onnxruntime", "pandas"})


def test_help_loads_nothing_heavy():
    code = "import sys, runpy\nsys.argv = ['satmask', '--help']\ntry: runpy.run_module('satmask', run_name='__main__')"
    assert not loaded_by(f"{code}\nexcept SystemExit: pass") & (KERAS | {"rasterio", "geopandas", "matplotlib"})


def test_prediction_scores_and_data_load_no_keras():
    names = ", ".join(f"satmask.{part}" for part in (*NEVER_KERAS, "scoring.rasters", "engines", "model_file"))
    assert not loaded_by(f"import {names}") & KERAS


def test_every_public_name_is_found():
    keras_free = [name for name, home in satmask._HOMES.items() if home != "satmask.training"]
    assert all(getattr(satmask, name).__name__ == name for name in keras_free)
    assert set(satmask.__all__) <= set(dir(satmask))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        satmask.nothing  # noqa: B018  # the attribute is what is tested
