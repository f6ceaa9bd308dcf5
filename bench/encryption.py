"""How fast copies are encrypted and decrypted, beside the program `age`.

    python bench/encryption.py [MEGABYTES [ROUNDS]]

Reads a file of random bytes of that size (1,000 by default), in turns with the program, and
throws the output away; prints the median of some rounds (5 by default), the ratio of both,
and by how much the peak of memory grew. What counts are the ratio and the growth.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.encryption import decrypted, encrypted, make_identity

MIB = 1024 * 1024


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5  # noqa: PLR2004
    identity = make_identity()
    with tempfile.TemporaryDirectory(prefix="backstop-bench-") as name:
        plain, sealed, key = (Path(name) / part for part in ("x.dump", "x.dump.age", "key.txt"))
        key.write_text(identity.secret)
        with Path("/dev/urandom").open("rb") as random, plain.open("wb") as file:
            for _ in range(megabytes):
                file.write(random.read(MIB))
        with sealed.open("wb") as file:
            file.writelines(encrypted(chunks_of(plain), [identity.recipient]))
        compare(
            "encrypt",
            rounds,
            lambda: drain(encrypted(chunks_of(plain), [identity.recipient])),
            lambda: age(plain, "-r", identity.recipient.key),
        )
        compare(
            "decrypt",
            rounds,
            lambda: drain(decrypted(chunks_of(sealed), [identity])),
            lambda: age(sealed, "-d", "-i", str(key)),
        )


def compare(title: str, rounds: int, ours: Callable[[], None], theirs: Callable[[], None]) -> None:
    before = peak()
    both = [(seconds(ours), seconds(theirs)) for _ in range(rounds)]
    backstop, age_itself = map(statistics.median, zip(*both, strict=True))
    print(
        f"{title}: Backstop {backstop:.2f} s, age {age_itself:.2f} s,"
        f" ratio {backstop / age_itself:.2f}; memory grew by {peak() - before} KiB"
    )


def seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            yield chunk


def drain(pieces: Iterator[bytes]) -> None:
    for _ in pieces:
        pass


def age(path: Path, *options: str) -> None:
    with path.open("rb") as file:
        subprocess.run(["age", *options], stdin=file, stdout=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
