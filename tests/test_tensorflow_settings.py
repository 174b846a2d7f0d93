"""What TensorFlow is told before it is loaded, each case in a Python of its own."""

import os
import platform
import subprocess
import sys

import pytest

NAME = "TF_ENABLE_ONEDNN_OPTS"
TOLD = f"import os, satmask; print(os.environ.get('{NAME}'))"
ASKED = """
import satmask.losses
from tensorflow.python.util import _pywrap_util_port
print(int(_pywrap_util_port.IsMklEnabled()))
"""
x86 = pytest.mark.skipif(platform.machine() not in {"x86_64", "AMD64"}, reason="not for other processors")


def said(code, **environment):
    kept = {name: value for name, value in os.environ.items() if name != NAME}
    command = [sys.executable, "-W", "ignore", "-c", code]
    run = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True)
    return run.stdout.split()[-1]


@x86
def test_tensorflow_takes_the_kernels_of_onednn():
    assert said(ASKED) == "1"


@x86
def test_the_users_own_setting_stays():
    assert said(ASKED, **{NAME: "0"}) == "0"


def test_nothing_is_set_where_it_would_come_too_late():
    assert said(f"import sys; sys.modules['tensorflow'] = sys; {TOLD}") == "None"


def test_nothing_is_set_on_other_processors():
    assert said(f"import platform; platform.machine = lambda: 'arm64'; {TOLD}") == "None"
