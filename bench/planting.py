"""Open the catalogue of a panel that does not run, to plant rows in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from app import create_app
from app.config import load_settings
from app.extensions import db
from app.services.access import admins
from app.services.catalogue.state import prepare_catalogue
from bench.panel import Home


@contextmanager
def planting(home: Home) -> Iterator[None]:
    """The context of its application, with an admin; its folders are there."""
    home.folder.mkdir(exist_ok=True)
    home.dump("").mkdir(exist_ok=True)
    with mock.patch.dict(os.environ, home.environment(), clear=True):
        app = create_app(load_settings(dotenv=None))
    with app.app_context():
        prepare_catalogue()
        admins.create_first_admin()
        yield
        db.session.remove()
        db.engine.dispose()
