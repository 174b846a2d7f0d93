"""What the tests share: the real data, where it is there."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real imagery with labels; tests that need it are skipped where it is absent, but never in CI."""
    folder = Path(os.environ.get("SATMASK_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the real test data, but {folder} isn't a folder. Set SATMASK_TEST_DATA.")
        pytest.skip(f"The real test data isn't at {folder}. Set SATMASK_TEST_DATA.")
    return folder
