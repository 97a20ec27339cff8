"""`python -m chemnet` is the command line."""

import sys

from chemnet.cli.main import main

sys.exit(main())
