"""``python -m aum``."""

import sys

from aum.command.cli import main

sys.exit(main())
