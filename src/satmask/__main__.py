"""`python -m satmask`: the command line."""

import sys

from satmask.cli import main

sys.exit(main())
