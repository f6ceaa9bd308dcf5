"""The application for a WSGI server and for the flask command."""

import gc
import os
import sys

# All that is imported stays: to look through it again and again for what could go
# would take a tenth of the time in which a command starts.
gc.disable()

from app import create_app  # noqa: E402
from app.errors import AppError  # noqa: E402

os.umask(0o077)  # whatever we write is for our own user alone

try:
    app = create_app()
except AppError as error:
    sys.exit(error.in_words())

gc.freeze()
gc.enable()
