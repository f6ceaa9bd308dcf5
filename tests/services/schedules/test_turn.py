"""What a turn of the scheduler costs; what it does is shown in simulated time."""

from flask import Flask

from app.models.types import now
from app.services.schedules import turn
from tests.api.test_schedules import planted_schedules
from tests.services.health.test_figures import counting


def test_a_turn_asks_no_more_with_many_schedules_than_with_few(app: Flask, context: None):
    at = now()  # before any of them is due

    def asked() -> int:
        with counting() as sent:
            turn.turn(at)
        return len(sent)

    planted_schedules(app, 2)
    few = asked()
    planted_schedules(app, 50, firings=10, prefix="t")
    assert asked() == few < 20
