"""What is encrypted comes back whole, or with an error: never as if a part were all."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.encryption import (
    decrypted,
    decrypted_text,
    encrypted,
    encrypted_text,
    make_identity,
    parse_recipient,
)
from app.errors import InvalidInput, VerificationError

CHUNK = 64 * 1024  # of age's payload
TAG, NONCE = 16, 16
MIB = 1024 * 1024

ANN, BOB, EVE = make_identity(), make_identity(), make_identity()
PLAIN = os.urandom(2 * CHUNK + 1000)
SEALED = b"".join(encrypted([PLAIN], [ANN.recipient]))
TEXT = encrypted_text(PLAIN[:1000], [ANN.recipient]).strip()
HEADER = len(SEALED) - len(PLAIN) - NONCE - 3 * TAG


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "age"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert threads() == []


def pieces_of(content: bytes, length: int) -> list[bytes]:
    return [content[start : start + length] for start in range(0, len(content), length)]


def collect(pieces: Iterable[bytes], into: bytearray) -> None:
    for piece in pieces:
        into += piece


@pytest.mark.parametrize(
    "size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 10 * MIB], ids=lambda size: f"{size} B"
)
def test_it_comes_back_whole(size: int):
    plain = os.urandom(size)
    sealed = list(encrypted(pieces_of(plain, MIB), [ANN.recipient]))
    assert b"".join(decrypted(sealed, [ANN])) == plain


@given(st.lists(st.binary(max_size=100) | st.just(bytes(CHUNK)), max_size=6), st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_it_comes_back_however_it_is_cut(chunks: list[bytes], length: int):
    sealed = b"".join(encrypted(chunks, [ANN.recipient]))
    parts = pieces_of(sealed[:2000], length) + pieces_of(sealed[2000:], length * 1000)
    assert b"".join(decrypted(parts, [ANN])) == b"".join(chunks)


def test_nothing_of_the_plaintext_is_in_it():
    sealed = b"".join(encrypted([b"a secret word " * 1000], [ANN.recipient]))
    assert b"secret" not in sealed


def test_each_recipient_alone_can_read_it():
    sealed = list(encrypted([PLAIN], [ANN.recipient, BOB.recipient]))
    for identities in ([ANN], [BOB], [EVE, BOB]):
        assert b"".join(decrypted(sealed, identities)) == PLAIN


@pytest.mark.parametrize("identities", [[EVE], []], ids=["another's", "none"])
def test_nobody_else_can_read_it(identities: list):
    with pytest.raises(InvalidInput, match="no private key fits") as caught:
        list(decrypted([SEALED], identities))
    assert "private key of a recipient" in caught.value.hint
    with pytest.raises(InvalidInput, match="no private key fits"):
        decrypted_text(encrypted_text(b"x", [ANN.recipient]), identities)


def test_without_a_recipient_nothing_is_encrypted():
    with pytest.raises(InvalidInput, match="no recipient"):
        encrypted([PLAIN], [])
    with pytest.raises(InvalidInput, match="no recipient"):
        encrypted_text(PLAIN, [])


CUTS = {
    "nothing": 0,
    "a part of the header": HEADER // 2,
    "the header": HEADER,
    "the header and a part of the nonce": HEADER + NONCE // 2,
    "the header and the nonce": HEADER + NONCE,
    "a part of the first chunk": HEADER + NONCE + 1000,
    "one chunk": HEADER + NONCE + CHUNK + TAG,
    "all but the last chunk": HEADER + NONCE + 2 * (CHUNK + TAG),
    "all but the last tag": len(SEALED) - TAG,
    "all but the last byte": len(SEALED) - 1,
}


@pytest.mark.parametrize("length", CUTS.values(), ids=CUTS.keys())
def test_a_cut_copy_is_told(length: int):
    plain = bytearray()
    with pytest.raises(VerificationError, match="incomplete"):
        collect(decrypted([SEALED[:length]], [ANN]), plain)
    assert len(plain) < len(PLAIN)
    assert PLAIN.startswith(plain)


@given(st.integers(0, len(SEALED) - 1))
@settings(max_examples=60, deadline=None)
def test_a_cut_anywhere_is_told(length: int):
    with pytest.raises(VerificationError):
        list(decrypted([SEALED[:length]], [ANN]))


@given(st.integers(0, len(SEALED) - 1), st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_anywhere_is_told(position: int, bit: int):
    changed = bytearray(SEALED)
    changed[position] ^= 1 << bit
    plain = bytearray()
    # In the header it can look as if the copy were for somebody else.
    with pytest.raises(
        (VerificationError, InvalidInput) if position < HEADER else VerificationError
    ):
        collect(decrypted([bytes(changed)], [ANN]), plain)
    assert PLAIN.startswith(plain)
    assert plain != PLAIN


@pytest.mark.parametrize("more", [b"x", SEALED], ids=["a byte", "another copy"])
@pytest.mark.parametrize("size", [0, CHUNK, CHUNK + 1])
def test_something_after_the_end_is_told(size: int, more: bytes):
    sealed = [*encrypted([bytes(size)], [ANN.recipient]), more]
    with pytest.raises(VerificationError):
        list(decrypted(sealed, [ANN]))


def test_swapped_chunks_are_told():
    start, length = HEADER + NONCE, CHUNK + TAG
    first, second = SEALED[start:][:length], SEALED[start + length :][:length]
    swapped = SEALED.replace(first + second, second + first)
    assert len(swapped) == len(SEALED)
    with pytest.raises(VerificationError):
        list(decrypted([swapped], [ANN]))


def test_an_unknown_version_is_told_in_one_line():
    with pytest.raises(VerificationError) as caught:
        list(decrypted([SEALED.replace(b"org/v1", b"org/v9", 1)], [ANN]))
    assert "Unknown age format" in caught.value.detail
    assert "\n" not in caught.value.detail


def test_what_was_never_encrypted_is_told():
    with pytest.raises(VerificationError):
        list(decrypted([b"PGDMP" + os.urandom(5000)], [ANN]))
    with pytest.raises(VerificationError):
        decrypted_text("PGDMP", [ANN])


def encrypt_to_ann(chunks: Iterable[bytes]) -> Iterator[bytes]:
    return encrypted(chunks, [ANN.recipient])


def decrypt_as_ann(chunks: Iterable[bytes]) -> Iterator[bytes]:
    return decrypted(itertools.chain([SEALED[: HEADER + NONCE + CHUNK + TAG]], chunks), [ANN])


both_ways = pytest.mark.parametrize("flow", [encrypt_to_ann, decrypt_as_ann])


@both_ways
def test_the_error_of_the_producer_comes_out_and_the_end_does_not(flow: Callable):
    broken = OSError("the disk is away")

    def chunks() -> Iterator[bytes]:
        yield from [b"x" * CHUNK] * 3 if flow is encrypt_to_ann else []
        raise broken

    collected = bytearray()
    with pytest.raises(OSError, match="the disk is away") as caught:
        collect(flow(chunks()), collected)
    assert caught.value is broken
    if flow is encrypt_to_ann:
        with pytest.raises(VerificationError):
            list(decrypted([bytes(collected)], [ANN]))


@both_ways
def test_the_producer_runs_in_the_thread_of_the_consumer(flow: Callable):
    where: list[threading.Thread] = []

    def chunks() -> Iterator[bytes]:
        where.append(threading.current_thread())
        yield SEALED[HEADER + NONCE + CHUNK + TAG :]

    assert b"".join(flow(chunks()))
    assert where == [threading.current_thread()]


def sealed_zeros() -> Iterator[bytes]:
    return encrypt_to_ann(itertools.repeat(bytes(CHUNK)))


@pytest.mark.parametrize(
    "flow", [sealed_zeros, lambda: decrypted(sealed_zeros(), [ANN])], ids=["encrypted", "decrypted"]
)
def test_a_consumer_that_stops_early_leaves_no_thread(flow: Callable[[], Iterator[bytes]]):
    stream = flow()
    assert threads() == []
    assert next(stream)
    assert threads() != []
    stream.close()  # type: ignore[attr-defined]
    assert threads() == []
    for piece in flow():
        assert piece
        break


def test_a_stream_that_nobody_ends_lets_the_process_end():
    script = """
import itertools
from app.encryption import encrypted, make_identity

kept = encrypted(itertools.repeat(bytes(100_000)), [make_identity().recipient])
next(kept)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_what_is_on_its_way_is_little():
    asked, came, most = 0, 0, 0

    def chunks() -> Iterator[bytes]:
        nonlocal asked
        for _ in range(40):
            asked += MIB
            yield bytes(MIB)

    for piece in decrypted(encrypted(chunks(), [ANN.recipient]), [ANN]):
        came += len(piece)
        most = max(most, asked - came)
    assert came == 40 * MIB
    assert most <= 2 * MIB


def test_memory_stays_flat():
    script = """
import itertools, resource
from app.encryption import decrypted, encrypted, make_identity

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def flow(mebibytes):
    zeros = itertools.repeat(bytes(1024 * 1024), mebibytes)
    return sum(map(len, decrypted(encrypted(zeros, [ann.recipient]), [ann])))

ann = make_identity()
flow(2)
before = peak()
print(flow(100), peak() - before)
"""
    answer = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE)
    length, growth = map(int, answer.stdout.split())
    assert length == 100 * MIB
    assert growth < 10 * 1024  # KiB


def test_a_text_comes_back_and_is_readable_in_json():
    for content in (b"", b"x", os.urandom(100_000)):
        text = encrypted_text(content, [ANN.recipient, BOB.recipient])
        assert text.isascii()
        assert text.startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
        assert decrypted_text(text, [BOB]) == content


@given(st.integers(0, len(TEXT) - 1))
@settings(max_examples=40, deadline=None)
def test_a_cut_text_is_told(length: int):
    with pytest.raises(VerificationError):
        decrypted_text(TEXT[:length], [ANN])


def test_a_recipient_that_was_never_parsed_is_refused():
    broken = type(ANN.recipient)("age1nonsense")
    with pytest.raises(InvalidInput):
        encrypted([PLAIN], [parse_recipient(ANN.recipient.key), broken])
