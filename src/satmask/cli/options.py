"""The flags that verbs share, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from satmask.fitting import Reading

File = {"exists": True, "dir_okay": False}

Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]
SkipInvalid: TypeAlias = Annotated[bool, typer.Option("--skip-invalid", help="Leave out broken tiles and labels.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
LegendFile: TypeAlias = Annotated[Path | None, typer.Option("--legend", **File, help="Classes, from TOML or JSON.")]
RegistrationFile: TypeAlias = Annotated[Path | None, typer.Option("--registration", **File, help="Shifts of DSTL products, if not in DATA.")]  # fmt: skip
Thresholds: TypeAlias = Annotated[str | None, typer.Option("--threshold", metavar="X[,Y…]", help="Probability from which a pixel has a class; one, or one a class.")]  # fmt: skip
DecisionFile: TypeAlias = Annotated[Path | None, typer.Option("--decision", **File, help="Thresholds, smallest areas and merging rules, from TOML or JSON.")]  # fmt: skip


def numbers(text: str | None, flag: str) -> tuple[float, ...] | None:
    """Read numbers that commas separate.

    Raises:
        SettingError: If one isn't a number.

    Examples:
        >>> numbers("0.5,0.25", "--threshold")
        (0.5, 0.25)
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        from satmask.errors import SettingError

        msg = f"{flag} must be numbers separated by commas, got {text!r}."
        raise SettingError(msg) from None


def band_list(text: str | None) -> tuple[int | str, ...] | None:
    """Read bands by number or name, separated by commas.

    Examples:
        >>> band_list("3,2,nir")
        (3, 2, 'nir')
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    return tuple(int(part) if part.isdecimal() else part for part in parts)


def reading(
    *, bands: str | None, scaled: bool, gsd: str | None, stretch: str | None, upsampling: int | None = None
) -> Reading:
    """Read how scenes are to be read for a model.

    Raises:
        SettingError: If a size or a percentile isn't a number.
    """
    from satmask.errors import SettingError
    from satmask.fitting import Reading

    limits = numbers(stretch, "--stretch")
    if limits is not None and len(limits) != 2:
        msg = f"--stretch must be two percentiles such as 2,98, got {stretch!r}."
        raise SettingError(msg)
    try:
        size = None if gsd is None else "model" if gsd == "model" else float(gsd)
    except ValueError:
        msg = f"--resample-to-gsd must be metres or 'model', got {gsd!r}."
        raise SettingError(msg) from None
    return Reading(band_list(bands), scaled, size, limits, upsampling)  # type: ignore[arg-type]


def mapping(texts: list[str] | None) -> dict[int, int]:
    """Read `VALUE=ID` pairs.

    Raises:
        SettingError: If one looks otherwise.

    Examples:
        >>> mapping(["255=1", "7=0"])
        {255: 1, 7: 0}
    """
    pairs = {}
    for text in texts or ():
        value, _, id_ = text.partition("=")
        try:
            pairs[int(value)] = int(id_)
        except ValueError:
            from satmask.errors import SettingError

            msg = f"--map must look like 255=1, got {text!r}."
            raise SettingError(msg) from None
    return pairs
