"""Training that ends with its model file: the report takes longer than runs that are as short as those of tests."""

import contextlib

import pytest


@contextlib.contextmanager
def reportless():
    """Write no reports, and draw no windows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("satmask.run_report.report_run", lambda *_, **__: None)
        patch.setattr("satmask.training.job.Job.show_windows", lambda _: None)
        yield
