"""pyogrio, loaded so that GeoPackages get their spatial index whatever was loaded before.

TensorFlow brings an SQLite without R-trees and offers it to all that is loaded after it. GDAL would take it in place of its
own: GeoPackages then lack their index, and differ from those that a process without TensorFlow writes. So pyogrio is asked to look into
its own libraries first; modules that read or write vector files take it from here.
"""

from __future__ import annotations

import os
import sys

# Unknown to systems whose libraries never take one another's symbols, such as macOS and Windows.
_OWN_FIRST = getattr(os, "RTLD_DEEPBIND", 0)

if _OWN_FIRST and "tensorflow" in sys.modules:
    _before = sys.getdlopenflags()
    sys.setdlopenflags(_before | _OWN_FIRST)
    try:
        import pyogrio
        import pyogrio.raw
    finally:
        sys.setdlopenflags(_before)
else:
    import pyogrio
    import pyogrio.raw

__all__ = ["pyogrio"]
