"""What all tests rely on."""

import os
import signal

# As `make test` has it, before torch is imported: several threads for small products take long on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests press Ctrl-C, which a shell lets its background jobs ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)
