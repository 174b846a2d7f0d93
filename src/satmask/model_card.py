"""What other programs read about a model file: the Deepness QGIS plugin and STAC catalogues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from satmask.model_info import ModelInfo

# The version of the STAC extension whose fields `stac_item` writes.
MLM_SCHEMA = "https://stac-extensions.github.io/mlm/v1.4.0/schema.json"
CLASSIFICATION_SCHEMA = "https://stac-extensions.github.io/classification/v2.0.0/schema.json"


def deepness_keys(info: ModelInfo, *, window: int | None = None) -> dict[str, str]:
    """The metadata that the Deepness plugin for QGIS reads, as JSON texts.

    Deepness divides pixel values by 255, subtracts a mean and divides by a standard deviation; mean 0 and deviation
    1/255 hand raw 8-bit values to the network. It gives images as `(batch, bands, height, width)` with fixed sides,
    which a satmask model file doesn't take: these keys tell it the rest, but to run a model there the file must first
    be given two transpositions and fixed sides by `for_deepness`. Deepness has no exact windows; its overlap is set to
    the halo.

    Args:
        info: What the model file says.
        window: Side of the windows; as small as makes half of it core where left out.

    Returns:
        Values by key. Both `tile_size`, which the plugin's code reads, and `tiles_size`, which its manual names, are
        there.

    References:
        https://qgis-plugin-deepness.readthedocs.io/en/latest/creators/creators_add_metadata_to_model.html
    """
    window = window or deepness_window(info)
    names = list(info.legend.names)
    # With a single output channel Deepness counts two classes, of which the first is what isn't the second.
    names = ["background", *names] if len(names) == 1 else names
    values = {
        "model_type": "Segmentor",
        "class_names": {str(place): name for place, name in enumerate(names)},
        "tile_size": window,
        "tiles_size": window,
        "tiles_overlap": min(-(-100 * info.halo // window), 49),
        "standardization_mean": [0.0] * len(info.bands),
        "standardization_std": [1 / 255] * len(info.bands),
        "seg_thresh": info.scaling.undone.thresholds(info.thresholds)[0],  # Deepness runs the bare graph
        "seg_small_segment": 0,
    }
    if info.gsd_m is not None:
        values["resolution"] = round(100 * (info.gsd_m[0] * info.gsd_m[1]) ** 0.5, 3)
    return {key: json.dumps(value) for key, value in values.items()}


def deepness_window(info: ModelInfo) -> int:
    """A window side of about four halos, at least 256, that the stride divides."""
    return -(-max(256, 4 * info.halo) // info.stride) * info.stride


def for_deepness(path: str | Path, target: str | Path, *, window: int | None = None) -> Path:
    """Write a copy of a model file that the Deepness plugin for QGIS can run.

    Args:
        path: The model file.
        target: The copy to write; satmask itself can't use it.
        window: Fixed side of the windows, a multiple of the stride.

    Returns:
        `target`.

    Raises:
        ModelError: If the file isn't a model file.
        SettingError: If the stride doesn't divide the window.
    """
    import onnx
    from onnx import helper

    from satmask.errors import SettingError
    from satmask.model_file import INPUT, KEY, OUTPUT, check

    info = check(path)
    window = window or deepness_window(info)
    if window < 1 or window % info.stride:
        msg = f"Window must be a multiple of {info.stride}, got {window}."
        raise SettingError(msg)
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    nodes = [
        helper.make_node("Transpose", ["image_nchw"], [INPUT], perm=[0, 2, 3, 1]),
        *graph.node,
        helper.make_node("Transpose", [OUTPUT], ["probabilities_nchw"], perm=[0, 3, 1, 2]),
    ]
    sides = [("image_nchw", len(info.bands)), ("probabilities_nchw", len(info.legend))]
    new = [helper.make_tensor_value_info(name, 1, [1, count, window, window]) for name, count in sides]
    wrapped = helper.make_graph(nodes, "satmask", [new[0]], [new[1]], initializer=list(graph.initializer))
    copy = helper.make_model(wrapped, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    helper.set_model_props(copy, {f"{KEY}_origin": info.model_dump_json(), **deepness_keys(info, window=window)})
    target = Path(target)
    target.write_bytes(copy.SerializeToString(deterministic=True))
    return target


def stac_item(info: ModelInfo, path: str | Path) -> dict[str, Any]:
    """Describe a model file as a STAC item with the Machine Learning Model extension.

    The item has no geometry: where a network is good to use isn't known from where it was trained.

    Args:
        info: What the model file says.
        path: The model file; the item refers to it by name, so both belong in one folder.

    Returns:
        The item, ready for JSON.

    References:
        STAC MLM extension, https://github.com/stac-extensions/mlm
    """
    path = Path(path)
    entry = {
        "name": "image",
        "bands": [band.name for band in info.bands],
        "input": _tensor(len(info.bands), "channel"),
        "description": f"Raw {info.dtype} values; normalisation is inside. Sides are multiples of {info.stride}.",
        "pre_processing_function": None,
    }
    result = {
        "name": "probabilities",
        "tasks": ["semantic-segmentation"],
        "result": _tensor(len(info.legend), "class"),
        "classification:classes": [
            {"value": item.id, "name": item.name, "color_hint": item.colour.removeprefix("#").upper()}
            for item in info.legend
        ],
        "post_processing_function": None,
    }
    properties = {
        "description": f"satmask {info.network} for {', '.join(info.legend.names)}",
        "datetime": info.created,
        "mlm:name": path.stem,
        "mlm:architecture": info.network,
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "ONNX",
        "mlm:input": [entry],
        "mlm:output": [result],
        "mlm:hyperparameters": info.options,
    }
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [MLM_SCHEMA, CLASSIFICATION_SCHEMA],
        "id": path.stem,
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": {
            "model": {
                "href": f"./{path.name}",
                "type": "application/octet-stream; application=onnx",
                "title": path.name,
                "mlm:artifact_type": "onnx",
                "roles": ["mlm:model", "mlm:weights"],
            }
        },
    }


def _tensor(channels: int, name: str) -> dict[str, Any]:
    """Shape and type of an input or output; -1 stands for any size."""
    return {
        "shape": [-1, -1, -1, channels],
        "dim_order": ["batch", "height", "width", name],
        "data_type": "float32",
    }
