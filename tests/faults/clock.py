"""flask, in a process whose clock jumps: `python tests/faults/clock.py WORDS…`.

CLOCK_JUMPS="3:+3600 7:-90000" moves the clock by so many seconds at the third
and the seventh look at it; CLOCK_STOPS=2026-11-23T12:00:00.123+00:00 stops it.
The clock is the one of the catalogue's rows and Python's own time.time.
"""

import os
import sys
import time
from datetime import datetime, timedelta, tzinfo
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))

from flask.cli import main

from app.models import types

_real_time = time.time


_jumps = dict(each.split(":") for each in os.environ.get("CLOCK_JUMPS", "").split())


class Clock(datetime):
    """Stands in for datetime where the panel asks what time it is."""

    stopped = os.environ.get("CLOCK_STOPS")
    looks = 0
    ahead = 0.0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        cls.ahead += float(_jumps.get(str(cls.looks), 0))
        cls.looks += 1
        moment = datetime.fromisoformat(cls.stopped) if cls.stopped else datetime.now(tz)
        return moment + timedelta(seconds=cls.ahead)


if __name__ == "__main__":
    types.datetime = Clock
    time.time = lambda: _real_time() + Clock.ahead
    main()
