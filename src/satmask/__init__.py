"""Satellite image in, masks and map features out.

The public names below are found in their modules at first use, so that `import satmask` loads neither Keras nor
TensorFlow, nor anything else that takes time.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satmask.datasets import Dataset as Dataset
    from satmask.datasets import read_dataset as read_dataset
    from satmask.datasets import read_legend as read_legend
    from satmask.engines import Engine as Engine
    from satmask.engines import open_engine as open_engine
    from satmask.errors import DataError as DataError
    from satmask.errors import InstallError as InstallError
    from satmask.errors import ModelError as ModelError
    from satmask.errors import SatmaskError as SatmaskError
    from satmask.errors import SceneError as SceneError
    from satmask.errors import SettingError as SettingError
    from satmask.findings import Finding as Finding
    from satmask.findings import findings_of as findings_of
    from satmask.grid import Grid as Grid
    from satmask.inspection import Inspection as Inspection
    from satmask.inspection import inspect as inspect
    from satmask.legend import Legend as Legend
    from satmask.legend import LegendClass as LegendClass
    from satmask.model_file import read_info as read_info
    from satmask.model_info import ModelInfo as ModelInfo
    from satmask.polygons import find_polygons as find_polygons
    from satmask.polygons import write_polygons as write_polygons
    from satmask.prediction import predict_array as predict_array
    from satmask.prediction import predict_scene as predict_scene
    from satmask.recipe import Recipe as Recipe
    from satmask.run import Run as Run
    from satmask.scene import Scene as Scene
    from satmask.scoring.coco import score_coco as score_coco
    from satmask.scoring.labels import score_labels as score_labels
    from satmask.scoring.pixels import Confusion as Confusion
    from satmask.scoring.pixels import confusion as confusion
    from satmask.scoring.rasters import score_folders as score_folders
    from satmask.scoring.rasters import score_rasters as score_rasters
    from satmask.split_files import write_split as write_split
    from satmask.splitting import plan_split as plan_split
    from satmask.stack import Product as Product
    from satmask.stack import Stack as Stack
    from satmask.stack import open_imagery as open_imagery
    from satmask.submission import write_crowdai as write_crowdai
    from satmask.training import train as train
    from satmask.windows import Window as Window

__version__ = "0.1.0"

# No submodule bears the name of a public function or class: importing it would put the module in its place.
_PUBLIC = {
    "satmask.datasets": ("Dataset", "read_dataset", "read_legend"),
    "satmask.engines": ("Engine", "open_engine"),
    "satmask.errors": ("DataError", "InstallError", "ModelError", "SatmaskError", "SceneError", "SettingError"),
    "satmask.findings": ("Finding", "findings_of"),
    "satmask.grid": ("Grid",),
    "satmask.inspection": ("Inspection", "inspect"),
    "satmask.legend": ("Legend", "LegendClass"),
    "satmask.model_file": ("read_info",),
    "satmask.model_info": ("ModelInfo",),
    "satmask.polygons": ("find_polygons", "write_polygons"),
    "satmask.prediction": ("predict_array", "predict_scene"),
    "satmask.recipe": ("Recipe",),
    "satmask.run": ("Run",),
    "satmask.scene": ("Scene",),
    "satmask.scoring.coco": ("score_coco",),
    "satmask.scoring.labels": ("score_labels",),
    "satmask.scoring.pixels": ("Confusion", "confusion"),
    "satmask.scoring.rasters": ("score_folders", "score_rasters"),
    "satmask.split_files": ("write_split",),
    "satmask.splitting": ("plan_split",),
    "satmask.stack": ("Product", "Stack", "open_imagery"),
    "satmask.submission": ("write_crowdai",),
    "satmask.training": ("train",),
    "satmask.windows": ("Window",),
}
_HOMES = {name: module for module, names in _PUBLIC.items() for name in names}
_EXTRA_TRAIN = ("keras", "tensorflow", "tensorboard", "tf2onnx")

# TensorFlow has faster kernels for x86, from oneDNN, and leaves them off where a processor lacks newer instructions, as AMD's
# before 2022 do: training is 1.3 to 2 times as fast with them. It reads this once, when it is loaded; whatever of satmask
# loads it, this comes before.
if platform.machine() in {"x86_64", "AMD64"} and "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  # names of _HOMES are strings; ruff can't see it


def __getattr__(name: str) -> Any:
    """Find a public name in its module at first use.

    Raises:
        AttributeError: If there is no such name.
        InstallError: If it needs a package of an extra that isn't installed.
    """
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    try:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_TRAIN:
            raise
        from satmask.errors import InstallError

        msg = f"Training must have Keras and TensorFlow, got no {package}. Run `pip install 'satmask[train]'`."
        raise InstallError(msg) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Public names and submodules."""
    return sorted({*globals(), *__all__})
