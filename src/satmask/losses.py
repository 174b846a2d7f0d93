"""Losses of training: pixel weights act inside them, so that nodata and unlabelled pixels teach nothing.

Truth is `(batch, height, width, classes)` of 0 and 1: one-hot where classes exclude each other (softmax), multi-hot
where they overlap (sigmoid). Keras multiplies sample weights with the value a loss gives for each sample; an overlap
such as Dice has no value for a single pixel, so the losses here take the weights themselves.

In the formulas `y` is truth, `p` probability, `w` the weight of a pixel, `k` that of a class (both 1 by default);
`Σ` runs over all pixels of the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import keras
from keras import ops

from satmask.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Probabilities are held this far from 0 and 1, as Keras does: the logarithm stays finite, and float32 resolves it.
EPSILON = 1e-7


class SegmentationLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras ships no types
    """Base of the losses: checks and masks what comes in, and hands float32 to `_compute`.

    A pixel of weight 0 changes neither the value nor the gradient, even where its probability is NaN. Where all
    weights are 0 the loss is 0, and so is its gradient.

    Args:
        activation: Last activation of the network: `sigmoid` (classes overlap) or `softmax` (they exclude each other).
        class_weights: One number for each class, 0 or more; None weighs them alike.
        interior: Border pixels of the window left out, because the network sees less context there.
        border: Weight of those pixels, in [0, 1]. At 0 the network never learns what to do at the edge of a scene, where
            it can't see further either, and says anything there.
        name: Name in the history; the registry's by default.

    Raises:
        SettingError: If a setting breaks the rules above.

    Examples:
        >>> import numpy as np
        >>> truth, probability = np.ones((1, 2, 2, 1)), np.full((1, 2, 2, 1), 0.5)
        >>> round(float(make_loss("bce")(truth, probability)), 4)
        0.6931
    """

    label = "loss"

    def __init__(
        self,
        *,
        activation: Literal["sigmoid", "softmax"] = "sigmoid",
        class_weights: Sequence[float] | None = None,
        interior: int = 0,
        border: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name or self.label, dtype="float32")
        if activation not in ("sigmoid", "softmax"):
            msg = f"Activation must be 'sigmoid' or 'softmax', got {activation!r}."
            raise SettingError(msg)
        if class_weights is not None and (min(class_weights, default=-1) < 0 or max(class_weights) <= 0):
            msg = f"Class weights must be 0 or more, and one above 0, got {list(class_weights)!r}."
            raise SettingError(msg)
        if interior < 0:
            msg = f"Interior must leave out 0 border pixels or more, got {interior}."
            raise SettingError(msg)
        self.activation = activation
        self.class_weights = None if class_weights is None else tuple(map(float, class_weights))
        if not 0 <= border <= 1:
            msg = f"Border must weigh 0 to 1, got {border}."
            raise SettingError(msg)
        self.interior, self.border = int(interior), float(border)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch.

        Args:
            y_true: Truth, 0 or 1, any dtype, `(batch, height, width, classes)`.
            y_pred: Probabilities in [0, 1], any float dtype, same shape.
            sample_weight: Weights, 0 or more, `(batch, height, width)`; fewer axes are spread over the rest. None
                weighs all pixels 1.

        Returns:
            A float32 scalar.

        Raises:
            SettingError: If the shapes don't fit each other or the settings.
        """
        return self.call(y_true, y_pred, sample_weight)

    def call(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Mask, cut to the interior, and compute; see `__call__`."""
        truth = ops.cast(ops.convert_to_tensor(y_true), "float32")
        probability = ops.cast(ops.convert_to_tensor(y_pred), "float32")
        self._check(truth.shape, probability.shape)
        weight = ops.ones_like(probability[..., :1])
        if sample_weight is not None:
            given = ops.cast(ops.convert_to_tensor(sample_weight), "float32")
            weight = weight * ops.reshape(given, (*ops.shape(given), *(1,) * (4 - len(given.shape))))
        if self.interior:
            inside = (slice(None), *(slice(self.interior, -self.interior),) * 2)
            if self.border:
                sides = [(0, 0), *[(self.interior, self.interior)] * 2, (0, 0)]
                weight = weight * ops.pad(ops.ones_like(weight[inside]), sides, constant_values=self.border)
            else:
                truth, probability, weight = truth[inside], probability[inside], weight[inside]
        # Multiplying by 0 would let a NaN through; choosing doesn't, neither forwards nor backwards.
        seen = weight > 0
        return self._compute(
            ops.where(seen, truth, 0.0), ops.where(seen, probability, 0.5), ops.where(seen, weight, 0.0)
        )

    def _compute(self, truth: Any, probability: Any, weight: Any) -> Any:
        """The formula, on float32 tensors `(batch, height, width, classes)` and a weight of one channel."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Settings, from which Keras builds the loss again."""
        config = {"activation": self.activation, "class_weights": self.class_weights, "interior": self.interior}
        return config | {"border": self.border, "name": self.name}

    def cross_entropy(
        self, truth: Any, probability: Any, weight: Any, *, focus: float = 0.0, balance: float | None = None
    ) -> Any:
        """Weighted mean of the cross-entropy.

        Args:
            truth: 0 or 1, `(batch, height, width, classes)`.
            probability: In [0, 1], same shape.
            weight: Of pixels, `(batch, height, width, 1)`.
            focus: `γ`; each term is multiplied by `(1 − q)^γ`, with `q` the probability given to what is true.
            balance: `α`; terms of presence are multiplied by it, those of absence by `1 − α`. None leaves it out.
        """
        probability = ops.clip(probability, EPSILON, 1.0 - EPSILON)
        weight = weight * self._class_weights(probability)
        if self.activation == "softmax":
            # Only the true class counts: the weights of a pixel's other classes are 0.
            hit, weight = probability, weight * truth
        else:
            hit = truth * probability + (1.0 - truth) * (1.0 - probability)
        terms = -ops.log(hit)
        if focus:
            terms = terms * ops.power(1.0 - hit, focus)
        if balance is not None:
            terms = terms * (truth * balance + (1.0 - truth) * (1.0 - balance))
        return _mean(terms, weight)

    def overlaps(self, truth: Any, probability: Any, weight: Any, *, by_image: bool = False) -> tuple[Any, Any]:
        """`Σ w·y·p` and `Σ w·(y + p)` of each class, over the batch `(1, classes)` or by image `(batch, classes)`."""
        axis = (1, 2) if by_image else (0, 1, 2)
        both = ops.sum(weight * truth * probability, axis=axis)
        either = ops.sum(weight * (truth + probability), axis=axis)
        return (both, either) if by_image else (both[None], either[None])

    def over_classes(self, values: Any) -> Any:
        """Mean of `(…, classes)` over the classes, by their weights."""
        share = self._class_weights(values)
        return ops.sum(values * share, axis=-1) / ops.sum(share)

    def _class_weights(self, like: Any) -> Any:
        given = self.class_weights or (1.0,) * like.shape[-1]
        return ops.convert_to_tensor(given, dtype="float32")

    def _check(self, truth: Sequence[int | None], probability: Sequence[int | None]) -> None:
        """Refuse what would broadcast to a number that means nothing."""
        if len(truth) != 4 or len(probability) != 4 or truth[-1] != probability[-1]:
            msg = (
                f"Truth must be (batch, height, width, classes) like the probabilities, got {truth} for {probability}."
            )
            raise SettingError(msg)
        classes = probability[-1]
        if self.class_weights is not None and len(self.class_weights) != classes:
            msg = f"Class weights must be one for each of {classes} classes, got {len(self.class_weights)}."
            raise SettingError(msg)
        sides = [side for side in probability[1:3] if side is not None]
        if sides and min(sides) <= 2 * self.interior:
            most = (min(sides) - 1) // 2
            msg = f"Interior must be below half the window of {min(sides)}, got {self.interior}. Use {most} or less."
            raise SettingError(msg)
        if self.activation == "softmax" and classes == 1:
            msg = "Softmax must have two classes or more, got 1. Use activation='sigmoid'."
            raise SettingError(msg)


class _Overlap(SegmentationLoss):
    """Base of losses with an overlap, smoothed so that a class without truth or prediction has one.

    Args:
        smooth: Pixels, above 0, added to both sides of the fraction.
        settings: Those of `SegmentationLoss`.
    """

    smooth = 1.0

    def __init__(self, *, smooth: float | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.smooth = self.smooth if smooth is None else float(smooth)
        if not self.smooth > 0:
            msg = f"Smooth must be above 0, got {smooth}. Use 1e-7 for next to none."
            raise SettingError(msg)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"smooth": self.smooth}

    def dice(self, truth: Any, probability: Any, weight: Any, *, by_image: bool = False) -> Any:
        """`(2 Σ w·y·p + s) / (Σ w·(y + p) + s)`, mean over classes: `(1,)`, or `(batch,)` by image."""
        both, either = self.overlaps(truth, probability, weight, by_image=by_image)
        return self.over_classes((2.0 * both + self.smooth) / (either + self.smooth))


@keras.saving.register_keras_serializable(package="satmask")
class CrossEntropy(SegmentationLoss):
    """Cross-entropy, `bce` in the registry.

    Sigmoid: `−Σ w·k·(y·log p + (1 − y)·log(1 − p)) / Σ w·k`, pixels and classes alike.
    Softmax: `−Σ w·k·y·log p / Σ w·k·y`; a pixel without truth doesn't count.

    References:
        Bishop, Pattern Recognition and Machine Learning, 2006, equations 4.90 and 4.108
    """

    label = "bce"

    def _compute(self, truth: Any, probability: Any, weight: Any) -> Any:
        return self.cross_entropy(truth, probability, weight)


@keras.saving.register_keras_serializable(package="satmask")
class Dice(_Overlap):
    """Soft Dice loss: `1 − (2 Σ w·y·p + s) / (Σ w·(y + p) + s)`.

    Taken for each class over all pixels of the batch, then averaged over the classes by `k`. With `s` = 1 pixel a class
    that is absent and not predicted costs nothing.

    References:
        Sudre et al., Generalised Dice overlap …, 2017, https://arxiv.org/abs/1707.03237, for the soft Dice score
    """

    label = "dice"

    def _compute(self, truth: Any, probability: Any, weight: Any) -> Any:
        return 1.0 - self.dice(truth, probability, weight)[0]


@keras.saving.register_keras_serializable(package="satmask")
class CrossEntropyDice(_Overlap):
    """Cross-entropy plus soft Dice loss: the first steers each pixel, the second evens out rare classes.

    References:
        Isensee et al., nnU-Net, 2018, https://arxiv.org/abs/1809.10486, for the sum
    """

    label = "bce_dice"

    def _compute(self, truth: Any, probability: Any, weight: Any) -> Any:
        cross_entropy = self.cross_entropy(truth, probability, weight)
        return cross_entropy + 1.0 - self.dice(truth, probability, weight)[0]


@keras.saving.register_keras_serializable(package="satmask")
class Building(_Overlap):
    """The building recipe: `0.05·BCE − Dice`, from −1 (perfect) up.

    Dice is taken for each image and class with `s` = 1, and averaged over classes and over the images that have any
    weight, as in the Keras programs for the crowdAI mapping challenge of 2018, which call it `dice_p_bce`.

    References:
        https://www.aicrowd.com/challenges/mapping-challenge
    """

    label = "building"

    def _compute(self, truth: Any, probability: Any, weight: Any) -> Any:
        seen = ops.cast(ops.any(weight > 0, axis=(1, 2, 3)), "float32")
        dice = _mean(self.dice(truth, probability, weight, by_image=True), seen)
        return 0.05 * self.cross_entropy(truth, probability, weight) - dice


@keras.saving.register_keras_serializable(package="satmask")
class JaccardCrossEntropy(_Overlap):
    """The DSTL recipe: `−log J + BCE`, with the soft Jaccard `J = (Σ w·y·p + s) / (Σ w·(y + p − y·p) + s)`.

    `J` is taken for each class over all pixels of the batch and averaged over classes before the logarithm, so a class
    that the batch lacks doesn't send the loss to infinity. `s` is 1e-12 as published.

    References:
        Iglovikov, Mushinskiy & Osin, Satellite Imagery Feature Detection using Deep CNN, 2017,
        https://arxiv.org/abs/1706.06169
    """

    label = "jaccard_bce"
    smooth = 1e-12

    def _compute(self, truth: Any, probability: Any, weight: Any) -> Any:
        both, either = self.overlaps(truth, probability, weight)
        jaccard = self.over_classes((both + self.smooth) / (either - both + self.smooth))[0]
        return self.cross_entropy(truth, probability, weight) - ops.log(jaccard)


@keras.saving.register_keras_serializable(package="satmask")
class Focal(SegmentationLoss):
    """Focal loss: cross-entropy whose easy pixels count less, `−α·(1 − q)^γ·log q`.

    `q` is the probability given to what is true: for sigmoid `p` or `1 − p`, for softmax `p` of the true class.
    For sigmoid `α` weighs presence and `1 − α` absence; for softmax balance the classes by `class_weights`. The paper
    sums over pixels and divides by the number of objects; here it is the weighted mean over pixels.

    Args:
        gamma: Focus `γ`, 0 or more; 0 is cross-entropy.
        alpha: Weight of presence, in (0, 1), sigmoid only; 0.25 by default, as published. 0.5 weighs both alike.
        settings: Those of `SegmentationLoss`.

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017, https://arxiv.org/abs/1708.02002, equation 5
    """

    label = "focal"

    def __init__(self, *, gamma: float = 2.0, alpha: float | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        if not gamma >= 0:
            msg = f"Gamma must be 0 or more, got {gamma}."
            raise SettingError(msg)
        if alpha is not None and not 0 < alpha < 1:
            msg = f"Alpha must lie between 0 and 1, got {alpha}."
            raise SettingError(msg)
        if alpha is not None and self.activation == "softmax":
            msg = f"Alpha must be left out for softmax, got {alpha}. Balance the classes by class_weights."
            raise SettingError(msg)
        self.gamma = float(gamma)
        self.alpha = None if self.activation == "softmax" else 0.25 if alpha is None else float(alpha)

    def get_config(self) -> dict[str, Any]:
        """Settings, from which Keras builds the loss again."""
        return super().get_config() | {"gamma": self.gamma, "alpha": self.alpha}

    def _compute(self, truth: Any, probability: Any, weight: Any) -> Any:
        return self.cross_entropy(truth, probability, weight, focus=self.gamma, balance=self.alpha)


_CLASSES: dict[str, Any] = {
    loss.label: loss for loss in (CrossEntropy, Dice, CrossEntropyDice, Building, JaccardCrossEntropy, Focal)
}

LOSSES: tuple[str, ...] = tuple(_CLASSES)


def make_loss(
    name: str,
    *,
    activation: Literal["sigmoid", "softmax"] = "sigmoid",
    class_weights: Sequence[float] | None = None,
    interior: int = 0,
    border: float = 0.0,
    **options: Any,
) -> SegmentationLoss:
    """Make a loss by its name.

    Args:
        name: One of `LOSSES`. With softmax, `bce` in a name means categorical cross-entropy.
        activation: Last activation of the network, `sigmoid` or `softmax`.
        class_weights: One number for each class, 0 or more; None weighs them alike.
        interior: Border pixels of the window left out.
        border: Weight of those pixels, 0 to 1.
        options: `gamma` and `alpha` of `focal`, `smooth` of those with Dice or Jaccard.

    Returns:
        A Keras loss that takes pixel weights as `sample_weight`.

    Raises:
        SettingError: If there is no such loss or option, or a value can't be used.

    Examples:
        >>> make_loss("focal", activation="softmax", gamma=1.5).get_config()["gamma"]
        1.5
    """
    if name not in _CLASSES:
        msg = f"Loss must be one of {', '.join(LOSSES)}, got {name!r}."
        raise SettingError(msg)
    known = {"focal": {"gamma", "alpha"}, "bce": set()}.get(name, {"smooth"})
    if unknown := sorted(set(options) - known):
        way_out = f"Use {' or '.join(sorted(known))}." if known else "It has none."
        msg = f"Option of loss {name!r} must be one it has, got {unknown[0]!r}. {way_out}"
        raise SettingError(msg)
    loss: SegmentationLoss = _CLASSES[name](
        activation=activation, class_weights=class_weights, interior=interior, border=border, **options
    )
    return loss


def _mean(values: Any, weight: Any) -> Any:
    """Weighted mean over everything; 0 where all weights are 0."""
    total = ops.sum(weight)
    return ops.sum(values * weight) / ops.where(total > 0, total, 1.0)
