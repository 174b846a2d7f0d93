"""Run-length codes: satmask against pycocotools and against plain NumPy, on a tile's buildings and on one large mask.

Example: `python benchmarks/masks.py --rounds 21`
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as pycoco  # type: ignore[import-untyped]  # ships no types

from measure import Ratio, arguments, begin, compare, interleave, show
from satmask.masks import (
    Runs,
    decode_coco,
    decode_kaggle,
    encode_coco,
    encode_kaggle,
    read_coco,
    read_kaggle,
    write_coco,
    write_kaggle,
)

TILE, BUILDINGS = 300, 12  # side of a crowdAI tile in pixels, and what one holds


def plain_encode(mask: np.ndarray) -> str:
    """Row-major pairs as many notebooks write them."""
    padded = np.concatenate([[0], mask.ravel(), [0]])
    runs = np.where(padded[1:] != padded[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(number) for number in runs)


def plain_decode(code: str, shape: tuple[int, int]) -> np.ndarray:
    """Row-major pairs as many notebooks read them."""
    numbers = np.asarray(code.split(), dtype=int)
    starts, lengths = numbers[::2] - 1, numbers[1::2]
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    for begin_, end in zip(starts, starts + lengths, strict=True):
        flat[begin_:end] = 1
    return flat.reshape(shape)


def draw_tile(random: np.random.Generator) -> np.ndarray:
    """Turned rectangles, one a mask, uint8 `(side, side, buildings)`, laid out as pycocotools wants them."""
    masks = np.zeros((BUILDINGS, TILE, TILE), np.uint8)
    for mask in masks:
        size = (float(random.uniform(12, 50)), float(random.uniform(12, 50)))
        box = ((float(random.uniform(0, TILE)), float(random.uniform(0, TILE))), size, float(random.uniform(0, 90)))
        cv2.fillPoly(mask, [cv2.boxPoints(box).astype(np.int32)], 1)
    return np.asfortranarray(masks.transpose(1, 2, 0))


def draw_large(random: np.random.Generator, side: int) -> np.ndarray:
    """Blobs that cover half of a mask, as crops or trees do, uint8 `(side, side)`."""
    coarse = cv2.GaussianBlur(random.random((side // 16, side // 16)).astype(np.float32), (0, 0), 2)
    fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return (fine > np.median(fine)).astype(np.uint8)


def measure(title: str, cases: dict[str, Callable[[], Any]], rounds: int) -> None:
    """Time ours, named first, against the others."""
    timings = interleave(cases, rounds)
    print(f"{title}: median {1000 * timings['satmask'].median:.2f} ms")
    show(timings, amount=1, unit="calls")
    peers = [name for name in timings if name != "satmask"]
    compare(
        [Ratio(f"satmask / {peer}, time", timings["satmask"].median / timings[peer].median, "≤ 1") for peer in peers]
    )
    print()


def measure_tile(random: np.random.Generator, rounds: int) -> None:
    """All codes of a tile at once."""
    masks, shape = draw_tile(random), (TILE, TILE)
    codes = pycoco.encode(masks)
    texts = write_kaggle(Runs.of(masks))
    same = write_coco(Runs.of(masks, order="column")) == [{**c, "counts": c["counts"].decode()} for c in codes]
    same &= bool((read_coco(codes).masks() == pycoco.decode(codes)).all())
    print(f"A tile of {TILE} × {TILE} with {BUILDINGS} buildings; codes are {'the same' if same else 'DIFFERENT'}.")
    measure(
        "decode COCO",
        {"satmask": lambda: read_coco(codes).masks(), "pycocotools": lambda: pycoco.decode(codes)},
        rounds,
    )
    measure(
        "encode COCO",
        {
            "satmask": lambda: [encode_coco(masks[..., place]) for place in range(BUILDINGS)],
            "pycocotools": lambda: pycoco.encode(masks),
        },
        rounds,
    )
    measure(
        "decode Kaggle",
        {
            "satmask": lambda: read_kaggle(texts, shape).masks(),
            "plain NumPy": lambda: [plain_decode(text, shape) for text in texts],
        },
        rounds,
    )
    measure(
        "encode Kaggle",
        {
            "satmask": lambda: write_kaggle(Runs.of(masks)),
            "plain NumPy": lambda: [plain_encode(masks[..., place]) for place in range(BUILDINGS)],
        },
        rounds,
    )


def measure_large(random: np.random.Generator, side: int, rounds: int) -> None:
    """One large mask."""
    mask = draw_large(random, side)
    turned = np.asfortranarray(mask)
    code, text = encode_coco(mask), encode_kaggle(mask)
    same = code["counts"] == pycoco.encode(turned)["counts"].decode() and text == plain_encode(mask)
    print(
        f"A mask of {side} × {side}, {len(Runs.of(mask).starts):,} runs; codes are {'the same' if same else 'DIFFERENT'}."
    )
    measure("decode COCO", {"satmask": lambda: decode_coco(code), "pycocotools": lambda: pycoco.decode(code)}, rounds)
    measure(
        "encode COCO",
        {
            "satmask": lambda: encode_coco(mask),
            "pycocotools": lambda: pycoco.encode(np.asfortranarray(mask)),
        },
        rounds,
    )
    measure(
        "encode COCO, from a mask that lies column by column",
        {"satmask": lambda: encode_coco(turned), "pycocotools": lambda: pycoco.encode(turned)},
        rounds,
    )
    measure(
        "decode Kaggle",
        {"satmask": lambda: decode_kaggle(text, mask.shape), "plain NumPy": lambda: plain_decode(text, mask.shape)},
        rounds,
    )
    measure(
        "encode Kaggle",
        {"satmask": lambda: encode_kaggle(mask), "plain NumPy": lambda: plain_encode(mask)},
        rounds,
    )


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = arguments(__doc__, rounds=21)
    parser.add_argument("--side", type=int, default=3400, help="side of the large mask, in pixels")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = parse()
    begin("Run-length codes")
    random = np.random.default_rng(1)
    measure_tile(random, 10 * options.rounds)
    measure_large(random, options.side, options.rounds)


if __name__ == "__main__":
    main()
