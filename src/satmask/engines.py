"""Who runs the network: ONNX Runtime, OpenVINO or Keras."""

from __future__ import annotations

import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from satmask.errors import InstallError, ModelError, SettingError
from satmask.model_file import INPUT, OUTPUT, check
from satmask.model_info import ModelInfo
from satmask.scaling import Scaling
from satmask.upsampling import double, halve

EngineName = Literal["auto", "onnxruntime", "openvino", "keras"]
ENGINES = ("auto", "onnxruntime", "openvino", "keras")


class Engine(ABC):
    """A network that is ready to run.

    Attributes:
        name: Which engine it is.
        info: What the model file says.
        workers: Threads that may call `run` at the same time and gain by it.
        path: The file that `open_engine` opened; None for an engine made otherwise.
    """

    name: str
    workers: int = 1
    path: Path | None = None

    def __init__(self, info: ModelInfo) -> None:
        self.info = info
        self._scaling = info.scaling

    def run(self, images: np.ndarray) -> np.ndarray:
        """Turn images into probabilities.

        Args:
            images: Raw values, float32, `(batch, height, width, bands)`; sides are multiples of the stride.

        Returns:
            Probabilities, float32, `(batch, height, width, classes)`, scaled as the model file says.

        Raises:
            SettingError: If the shape doesn't fit the network.
        """
        stride, bands = self.info.stride, len(self.info.bands)
        if images.ndim != 4 or images.shape[3] != bands or any(side < 1 or side % stride for side in images.shape[1:3]):
            msg = f"Images must be (batch, height, width, {bands}) with sides of {stride}·n, got {images.shape}."
            raise SettingError(msg)
        if not len(images):
            return np.empty((*images.shape[:3], len(self.info.legend)), np.float32)
        said = self._run(np.ascontiguousarray(images, dtype=np.float32))
        # ONNX Runtime's sigmoid of 17.844 is 1.0000001.
        said = np.clip(said, 0, 1, out=said if said.flags.writeable else None)
        return self._scaling.apply(said)

    def at(self, gsd_m: float | None, upsampling: int | None = None) -> Engine:
        """The engine for a scene with pixels of a size, which its network may have to see as four each.

        Args:
            gsd_m: Ground sampling distance of the scene in metres; None where unknown.
            upsampling: 2 has the network see each pixel as four, 1 as it is; by default what the model file says of the
                distance.

        Returns:
            Itself, or one that upsamples.

        Raises:
            SettingError: If the upsampling is neither.
        """
        info = self.info.at(gsd_m, upsampling)
        if info is self.info:
            return self
        return UpsampledEngine(self, info)

    def rest(self) -> None:  # noqa: B027  # an engine that holds nothing has nothing to do
        """Give back memory that is held for the next window; it is taken again when one comes."""

    @abstractmethod
    def _run(self, images: np.ndarray) -> np.ndarray:
        """Run on images whose shape was checked; gives what the network says, not scaled yet."""


class UpsampledEngine(Engine):
    """An engine that sees each pixel as four; it is used as any other engine is, in pixels of the scene.

    Args:
        engine: The engine.
        info: What its file says of it in pixels that are seen as four, see `ModelInfo.at`.
    """

    def __init__(self, engine: Engine, info: ModelInfo) -> None:
        super().__init__(info)
        self._engine = engine
        self.name, self.workers, self.path = engine.name, engine.workers, engine.path
        self._scaling = Scaling.none(len(info.legend), exclusive=info.legend.exclusive)  # the engine's own is applied

    def rest(self) -> None:
        """Let the engine rest."""
        self._engine.rest()

    def _run(self, images: np.ndarray) -> np.ndarray:
        return halve(self._engine.run(double(images)))


class OnnxRuntimeEngine(Engine):
    """ONNX Runtime on the CPU, one thread an image.

    Where ONNX Runtime shares one image among threads, the last bits of its sums depend on how it cuts the work, and so
    on the window's size and the batch. An image a thread keeps every byte, and all threads are busy as long as a batch
    holds as many images.
    """

    name = "onnxruntime"

    def __init__(self, path: Path, info: ModelInfo, threads: int | None) -> None:
        super().__init__(info)
        self._session = open_session(path, threads=1)
        self.workers = threads or available_cores()
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="satmask-onnxruntime")

    def _run(self, images: np.ndarray) -> np.ndarray:
        return np.concatenate(list(self._pool.map(self._run_one, images)))

    def _run_one(self, image: np.ndarray) -> np.ndarray:
        """Run on one image `(height, width, bands)`."""
        return run_session(self._session, image[None])

    def rest(self) -> None:
        """Run on as little as can be, and let ONNX Runtime give back what it doesn't need: it does so only after a run."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        side = self.info.stride
        self._session.run([OUTPUT], {INPUT: np.zeros((1, side, side, len(self.info.bands)), np.float32)}, options)


class OpenVinoEngine(Engine):
    """OpenVINO on the CPU, compiled once for each shape: with sizes left open its lead is gone.

    "auto" takes it for files of eight bits alone: in float32 it picks other arithmetic for other shapes, so that windows
    of some networks (the Xception-style one, measured with OpenVINO 2026.4) differ from the whole scene by about 1e-6.
    """

    name = "openvino"

    def __init__(self, path: Path, info: ModelInfo, threads: int | None) -> None:
        super().__init__(info)
        import openvino

        self._core = openvino.Core()
        self._path = str(path)
        # Full precision: on processors with bfloat16 or float16 units OpenVINO would otherwise round inside.
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled: dict[tuple[int, ...], Any] = {}

    def _run(self, images: np.ndarray) -> np.ndarray:
        if images.shape not in self._compiled:
            model = self._core.read_model(self._path)
            model.reshape(list(images.shape))
            self._compiled[images.shape] = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
        results = self._compiled[images.shape].infer([images])
        return np.array(results[0], dtype=np.float32)


class KerasEngine(Engine):
    """Keras on whatever device its backend finds: for GPUs. Reads `model.keras` beside `model.onnx`."""

    name = "keras"

    def __init__(self, path: Path, info: ModelInfo, threads: int | None) -> None:
        super().__init__(info)
        del threads  # Keras' backends take their threads from the environment.
        source = path.with_suffix(".keras")
        if not source.is_file():
            msg = f"Keras engine must find {source.name} beside the model file, got none. Use another engine."
            raise ModelError(msg)
        import keras

        try:
            # `safe_mode` refuses files that carry code.
            self._network = keras.saving.load_model(source, compile=False, safe_mode=True)
        except (ValueError, OSError, TypeError) as error:
            reason = str(error).splitlines()[0]
            msg = f"Keras model must be readable, got {reason!r:.200} for {source}."
            raise ModelError(msg) from error

    def _run(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self._network.predict_on_batch(images), dtype=np.float32)


def open_engine(path: str | Path, *, engine: EngineName = "auto", threads: int | None = None) -> Engine:
    """Open a model file for running.

    Args:
        path: The model file, or an assembly of several (`satmask.assembly`), or a rule (`satmask.rules`).
        engine: "onnxruntime", "openvino" or "keras"; "auto" takes ONNX Runtime, which gives the same bytes at any window
            size, batch size and number of threads; and OpenVINO, where it is installed, for files of eight bits that were
            made for it, with which it does the same.
        threads: Processor threads to use; all of them where None.

    Returns:
        The engine.

    Raises:
        ModelError: If the file can't be used.
        InstallError: If the engine isn't installed.
        SettingError: If there is no such engine.
    """
    if engine not in ENGINES:
        msg = f"Engine must be one of {', '.join(ENGINES)}, got {engine!r}."
        raise SettingError(msg)
    if threads is not None and threads < 1:
        msg = f"Threads must be at least 1, got {threads}. Leave it out to use them all."
        raise SettingError(msg)
    path = Path(path)
    if path.suffix == ".json":
        from satmask.assembly import open_assembly

        return _opened(open_assembly(path, engine=engine, threads=threads), path)
    if path.suffix == ".toml":
        from satmask.rules import RuleEngine, read_rule

        return _opened(RuleEngine(read_rule(path)), path)
    info = check(path)
    name = _usual(info) if engine == "auto" else engine
    if importlib.util.find_spec(name) is None:
        extra = {"openvino": "openvino", "keras": "train"}.get(name)
        what = f"satmask[{extra}]" if extra else name
        msg = f"Engine {name!r} must be installed, got no such package. Run pip install '{what}'."
        raise InstallError(msg)
    kinds: dict[str, Callable[[Path, ModelInfo, int | None], Engine]] = {
        "onnxruntime": OnnxRuntimeEngine,
        "openvino": OpenVinoEngine,
        "keras": KerasEngine,
    }
    return _opened(kinds[name](path, info, threads), path)


def _usual(info: ModelInfo) -> EngineName:
    """The engine that "auto" stands for."""
    made = info.training.get("quantisation", {})
    for_it = (made.get("weights"), made.get("engine")) == ("int8", "openvino")
    return "openvino" if for_it and importlib.util.find_spec("openvino") else "onnxruntime"


def _opened(engine: Engine, path: Path) -> Engine:
    """Remember which file an engine came from."""
    engine.path = path
    return engine


def available_cores() -> int:
    """Processor cores that this process may use: a container or `taskset` may leave it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(path: Path, *, threads: int | None) -> Any:
    """Open an ONNX Runtime session on the CPU.

    Raises:
        ModelError: If ONNX Runtime can't run the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: warnings about the graph help nobody who runs it
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises a dozen kinds that share no base class
        reason = (str(error).splitlines() or ["no message"])[0]
        msg = f"Model file must run in ONNX Runtime, got {reason!r:.300} for {path}."
        raise ModelError(msg) from error


def run_session(session: Any, images: np.ndarray) -> np.ndarray:
    """Run an ONNX Runtime session.

    Raises:
        ModelError: If ONNX Runtime fails.
    """
    try:
        (probabilities,) = session.run([OUTPUT], {INPUT: images})
    except Exception as error:  # as above
        reason = (str(error).splitlines() or ["no message"])[0]
        msg = f"Model file must run in ONNX Runtime, got {reason!r:.300} for images of shape {images.shape}."
        raise ModelError(msg) from error
    return np.asarray(probabilities, dtype=np.float32)
