"""How long it takes until a command has answered, or a panel does."""

from collections.abc import Iterator

from bench.harness import Claim, Row, Taken, Way, interleaved
from bench.world import World


def starting(world: World) -> Iterator[Row]:
    """Each in a new process."""
    home = world.new_home("starting", world.small)
    home.flask("backup", "list")  # makes the catalogue

    def panel() -> Taken:
        with home.panel() as started:
            return {"s": started.started}

    ways: dict[str, Way] = {
        "flask backup list": lambda: {"s": home.timed_flask("backup", "list")},
        "flask panel": panel,
        "flask --version": lambda: {"s": home.timed_flask("--version")},
    }
    rounds = interleaved(ways, world.scale.rounds)
    for ran, name in (
        ("flask backup list", "a command by the terminal"),
        ("flask panel", "start of the panel, until its web process answers"),
    ):
        yield Claim(name, ran, "flask --version").row(rounds, ran, "flask --version")
