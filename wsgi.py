"""The application for a WSGI server and for the flask command."""

import os
import sys

from app import create_app
from app.errors import AppError

os.umask(0o077)  # whatever we write is for our own user alone

try:
    app = create_app()
except AppError as error:
    sys.exit(error.in_words())
