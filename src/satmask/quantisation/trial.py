"""Whether a quantised model is worth having: IoU and speed before and after, and a refusal where they don't do."""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from satmask.engines import EngineName, open_engine
from satmask.errors import DataError, ModelError, SettingError
from satmask.fitting import open_for
from satmask.model_file import check, write
from satmask.prediction import choose_window
from satmask.quantisation.graph import METHODS, Method, fold, layers, measure_ranges, quantise, store_halves
from satmask.survey import survey
from satmask.timing import interleave
from satmask.validation import add, judge
from satmask.windows import draw, round_up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx

    from satmask.datasets.dataset import Sample
    from satmask.engines import Engine
    from satmask.model_info import ModelInfo
    from satmask.survey import Survey

Weights = Literal["int8", "float16"]
WEIGHTS: tuple[Weights, ...] = ("int8", "float16")
LEFT = (1, 2, 4, 8)  # layers left in float32, one try after the other
CLOSE = 4  # calibration windows on which layers are ranked
SCENE = (4096, 4096)  # of the usual windows that are timed


def _machine() -> str:
    """The processor's name, where the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


@dataclass(frozen=True)
class Terms:
    """What a quantised model has to keep to, and how it is tried.

    Attributes:
        weights: "int8" computes in eight bits; "float16" only stores weights in sixteen.
        max_loss: Points of mean IoU, hundredths, that may be lost on the validation images.
        min_gain: How many times as fast it must be; by default 2.5 for int8, and nothing for float16.
        engine: Who runs both; by default OpenVINO where it is installed, as its whole-number kernels are the faster.
        threads: Processor threads; all of them where None.
        windows: Training windows that the ranges of values are measured on.
        side: Their side at most, in pixels.
        rounds: How often each model is timed.
        seed: Seed of the draw of windows.
    """

    weights: Weights = "int8"
    max_loss: float = 0.3
    min_gain: float | None = None
    engine: EngineName | None = None
    threads: int | None = None
    windows: int = 32
    side: int = 256
    rounds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what can't be kept to."""
        if self.weights not in WEIGHTS or min(self.windows, self.side, self.rounds) < 1 or not self.max_loss >= 0:
            msg = (
                "Terms must have weights of int8 or float16, a loss of at least 0, and at least one window, pixel and round, "
                f"got {self}."
            )
            raise SettingError(msg)

    @property
    def gain(self) -> float:
        """The gain asked for."""
        return (2.5 if self.weights == "int8" else 0.0) if self.min_gain is None else self.min_gain

    @property
    def engine_name(self) -> EngineName:
        """The engine that is meant."""
        return self.engine or ("openvino" if importlib.util.find_spec("openvino") else "onnxruntime")


@dataclass(frozen=True)
class Trial:
    """One quantised graph, and what it gets right.

    Attributes:
        method: How ranges were measured; empty for float16.
        floats: Layers left in float32 beside the first.
        distance: Mean absolute difference of probabilities from float32's on calibration windows.
        iou: Mean IoU on the validation images.
    """

    method: str
    floats: tuple[str, ...]
    distance: float
    iou: float


@dataclass(frozen=True)
class Outcome:
    """What quantising came to.

    Attributes:
        terms: What was asked for.
        iou: Mean IoU of the model as it was, on the validation images.
        trials: The graphs that were tried; the last one is the result.
        images: Calibration windows.
        validation_images: Validation images.
        engine: Who ran both.
        window: `(height, width)` of the windows that were timed, in pixels.
        seconds: Median time of a batch of windows, before and after.
        sizes: Bytes of both files.
        machine: Processor that it was timed on.
    """

    terms: Terms
    iou: float
    trials: tuple[Trial, ...]
    images: int
    validation_images: int
    engine: str
    window: tuple[int, int]
    seconds: tuple[float, float]
    sizes: tuple[int, int]
    machine: str = field(default_factory=_machine)

    @property
    def loss(self) -> float:
        """Points of mean IoU lost; below 0 where it got better."""
        return 100 * (self.iou - self.trials[-1].iou)

    @property
    def gain(self) -> float:
        """How many times as fast it is."""
        return self.seconds[0] / self.seconds[1]

    def to_dict(self) -> dict[str, Any]:
        """What the model file tells about it."""
        last = self.trials[-1]
        return {
            "weights": self.terms.weights,
            "method": last.method or None,
            "float_layers": list(last.floats),
            "calibration_windows": self.images,
            "validation_images": self.validation_images,
            "trials": len(self.trials),
            "iou_before": round(self.iou, 5),
            "iou_after": round(last.iou, 5),
            "loss_points": round(self.loss, 3),
            "gain": round(self.gain, 2),
            "engine": self.engine,
            "window": list(self.window),
            "machine": self.machine,
            "bytes_before": self.sizes[0],
            "bytes_after": self.sizes[1],
        }

    def verdict(self) -> str:
        """Why it must be refused; empty where it does."""
        if not self.loss <= self.terms.max_loss:
            least = 100 * (self.iou - max(trial.iou for trial in self.trials))
            return (
                f"Quantised model must lose at most {self.terms.max_loss:g} points of IoU, got {least:.2f} in the best "
                f"of {len(self.trials)} tries. Pass --max-loss, or more --windows."
            )
        if not self.gain >= self.terms.gain:
            other = "" if self.engine == "openvino" else " Try --engine openvino, or"
            return (
                f"Quantised model must be {self.terms.gain:g} × as fast, got {self.gain:.2f} × in {self.engine} on this "
                f"machine.{other} Pass --min-gain {np.floor(self.gain * 10) / 10:.1f} to have it all the same."
            )
        return ""


def quantise_file(
    path: str | Path,
    out: str | Path,
    *,
    training: Sequence[Sample],
    validation: Sequence[Sample],
    terms: Terms | None = None,
    bands: Sequence[int | str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Write a quantised copy of a model file, if it is as good and fast as asked for.

    Ranges are measured on training windows, IoU on validation images; both models run in the same engine, and are timed in
    turn. Where too much is lost, the layers whose rounding changes probabilities most, measured on training windows, are
    left in float32: one, then two, four and eight.

    Args:
        path: The model file.
        out: The file to write; nothing is written where the model is refused.
        training: Samples of the training split.
        validation: Samples that the network wasn't trained on.
        terms: What to keep to.
        bands: Bands to read, by number from 1 or by name; as the model says by default.
        progress: Called with what is being done.

    Returns:
        What was measured; what `verdict` says of it is empty if and only if the file was written.

    Raises:
        ModelError: If the model file can't be used or quantised.
        DataError: If there is no image to calibrate or to judge on.
        SettingError: If `out` is the model file itself.
    """
    path, out, terms = Path(path), Path(out), terms or Terms()
    info = check(path)
    if out.exists() and out.samefile(path):
        msg = f"Quantised model must be a file of its own, got {out}. Name another by --out."
        raise SettingError(msg)
    if not training or not validation:
        msg = f"Quantising must have images to calibrate and to judge on, got {len(training)} and {len(validation)}."
        raise DataError(msg)
    work = _Work(path, out, info, terms, held=survey(validation, bands=bands), progress=progress)
    try:
        return work.run(_draw_images(info, survey(training, bands=bands), terms))
    finally:
        work.part.unlink(missing_ok=True)
        work.part.with_suffix(".stac.json").unlink(missing_ok=True)


class _Work:
    """One model being quantised."""

    def __init__(
        self,
        path: Path,
        out: Path,
        info: ModelInfo,
        terms: Terms,
        *,
        held: Survey,
        progress: Callable[[str], None],
    ) -> None:
        self.path, self.out, self.info, self.terms = path, out, info, terms
        self.held, self.progress = held, progress
        self.part = out.with_name(f"{out.stem}.part{out.suffix}")
        self.folded = fold(path)
        self.before = self._open(path)

    def run(self, images: Sequence[np.ndarray]) -> Outcome:
        """Try until it is good enough, then time it, and write it if it is fast enough."""
        self.progress("Judging the model as it is")
        iou = self._judge(self.before)
        trials = self._try(images, iou)
        self.progress("Timing both in turn")
        after = self._open(self.part)
        window, seconds = self._time(after)
        outcome = Outcome(
            self.terms,
            iou,
            tuple(trials),
            images=len(images) if self.terms.weights == "int8" else 0,
            validation_images=len(self.held.samples),
            engine=after.name,
            window=window,
            seconds=seconds,
            sizes=(self.path.stat().st_size, self.part.stat().st_size),
        )
        if not outcome.verdict():
            told = self.info.training | {"quantisation": outcome.to_dict()}
            write(_load(self.part), self.out, self.info.model_copy(update={"training": told}))
        return outcome

    def _try(self, images: Sequence[np.ndarray], iou: float) -> list[Trial]:
        """Quantise in one way after the other until little enough is lost; the file of the last is kept."""
        close = images[:CLOSE]
        truth = [self.before.run(image[None]) for image in close]
        if self.terms.weights == "float16":
            return [self._judge_graph(store_halves(self.folded), "", (), (close, truth))]
        ranges = {method: measure_ranges(self.folded, images, method=method) for method in METHODS}
        distances = {method: self._distance(self._quantise(ranges[method]), (close, truth)) for method in METHODS}
        method: Method = min(METHODS, key=lambda name: distances[name])
        trials = [self._judge_graph(self._quantise(ranges[method]), method, (), (close, truth))]
        ranked: list[str] = []
        for count in LEFT:
            if 100 * (iou - trials[-1].iou) <= self.terms.max_loss or count > len(layers(self.folded)) - 2:
                break
            ranked = ranked or self._rank(ranges[method], (close, truth))
            floats = tuple(ranked[:count])
            trials.append(
                self._judge_graph(self._quantise(ranges[method], floats=floats), method, floats, (close, truth))
            )
        return trials

    def _quantise(self, ranges: Mapping[str, tuple[float, float]], floats: Sequence[str] = ()) -> onnx.ModelProto:
        return quantise(self.folded, ranges, floats=floats, fused=self.terms.engine_name == "openvino")

    def _judge_graph(
        self,
        graph: onnx.ModelProto,
        method: str,
        floats: tuple[str, ...],
        close: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    ) -> Trial:
        """Write a graph aside and judge it."""
        left = f", {len(floats)} layers in float32" if floats else ""
        self.progress(f"Judging it in {self.terms.weights}{left}")
        distance = self._distance(graph, close)
        return Trial(method, floats, distance, self._judge(self._open(self.part)))

    def _distance(self, graph: onnx.ModelProto, close: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]) -> float:
        """Write a graph aside; mean absolute difference of its probabilities from those of the model as it is."""
        write(graph, self.part, self.info)
        self._survive()
        engine = self._open(self.part)
        said = [np.abs(engine.run(image[None]) - there).mean() for image, there in zip(*close, strict=True)]
        return float(np.mean(said))

    def _rank(
        self, ranges: dict[str, tuple[float, float]], close: tuple[Sequence[np.ndarray], Sequence[np.ndarray]]
    ) -> list[str]:
        """Layers from the one whose rounding alone changes probabilities most."""
        names = layers(self.folded)[1:]
        distances = {}
        for place, name in enumerate(names):
            self.progress(f"Looking for layers that lose most, {place + 1} of {len(names)}")
            others = [other for other in names if other != name]
            distances[name] = self._distance(self._quantise(ranges, floats=others), close)
        return sorted(names, key=lambda name: -distances[name])

    def _judge(self, engine: Engine) -> float:
        """Mean IoU on the validation images."""
        verdicts, _ = judge(engine, self.held)
        iou = float(add(verdict.counts for verdict in verdicts).mean("iou"))
        if np.isnan(iou):
            msg = f"Validation images must hold pixels of a class, got none in {len(self.held.samples)} images."
            raise DataError(msg)
        return iou

    def _time(self, after: Engine) -> tuple[tuple[int, int], tuple[float, float]]:
        """Time both on the windows that `satmask predict` would take of a large scene."""
        size = choose_window(self.info, SCENE, workers=after.workers)
        low, high = np.asarray(self.info.value_range, np.float64).T
        random = np.random.default_rng(0)
        images = random.uniform(low, np.maximum(low, high), (after.workers, *size, len(low))).astype(np.float32)
        cases = {"before": lambda: self.before.run(images), "after": lambda: after.run(images)}
        timings = interleave(cases, self.terms.rounds)
        return size, (timings["before"].median, timings["after"].median)

    def _survive(self) -> None:
        """Run the graph in a process of its own first: OpenVINO crashes on some graphs, and would take this one along."""
        if self.terms.engine_name != "openvino":
            return
        stride, bands = self.info.stride, len(self.info.bands)
        code = (
            "import sys, numpy; from satmask import open_engine; "
            f"open_engine(sys.argv[1], engine='openvino', threads=1).run(numpy.zeros((1, {2 * stride}, {2 * stride}, {bands})))"
        )
        done = subprocess.run([sys.executable, "-c", code, str(self.part)], capture_output=True, text=True, check=False)  # noqa: S603 - our own code and path
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            msg = f"Quantised model must run in OpenVINO, got {reason!r:.200}. Try --engine onnxruntime."
            raise ModelError(msg)

    def _open(self, path: Path) -> Engine:
        return open_engine(path, engine=self.terms.engine_name, threads=self.terms.threads)


def _draw_images(info: ModelInfo, seen: Survey, terms: Terms) -> list[np.ndarray]:
    """Read training windows as prediction would, float32, each `(height, width, bands)`."""
    side = round_up(terms.side, info.stride)
    images = []
    for index, window in draw(seen.shapes, size=side, count=terms.windows, seed=(terms.seed,)):
        with open_for(info, seen.samples[index].image, bands=seen.indexes) as scene:
            images.append(scene.read(window).filled(info.fill).astype(np.float32))
    return images


def _load(path: Path) -> onnx.ModelProto:
    import onnx

    return onnx.load(path)
