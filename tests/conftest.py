"""What all tests rely on."""

import signal

# Tests press Ctrl-C, which a shell lets its background jobs ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)
