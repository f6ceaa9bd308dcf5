"""Wait for a moment."""

import select

_LONGEST = 60.0  # seconds


def pause(seconds: float) -> None:
    """Do nothing for so many seconds, also while somebody sets the clocks.

    time.sleep waits until a point in time, and fails where that has become absurd.
    """
    select.select([], [], [], min(max(seconds, 0.0), _LONGEST))
