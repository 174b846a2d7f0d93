"""Everything satmask raises on purpose.

```
SatmaskError
├── SettingError    a setting or an argument that can't be used (also a ValueError)
├── DataError       a data set, a label or an annotation that can't be used
├── SceneError      a raster that can't be opened, placed or written
├── ModelError      a model file that can't be used, or that doesn't fit the scene
└── InstallError    a part of satmask that isn't installed (also an ImportError)
```

A message states the rule, the value and the way out:
``Window size must be a multiple of 16, got 500. Use 496 or 512.``
The command line prints it as one line and exits with 1 (2 for a `SettingError`).
"""


class SatmaskError(Exception):
    """Base class of what satmask raises on purpose."""


class SettingError(SatmaskError, ValueError):
    """A setting or an argument can't be used."""


class DataError(SatmaskError):
    """A data set, a label or an annotation can't be used."""


class SceneError(SatmaskError):
    """A raster can't be opened, placed or written."""


class ModelError(SatmaskError):
    """A model file can't be used, or doesn't fit the scene."""


class InstallError(SatmaskError, ImportError):
    """A part of satmask isn't installed."""
