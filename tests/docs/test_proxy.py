"""The example of a reverse proxy lets through what the panel takes."""

import re

from app.config import ROOT, UPLOAD_PART

PAGE = (ROOT / "docs/how-to/use-a-reverse-proxy.md").read_text(encoding="utf-8")
_EXAMPLE = re.search(r"```nginx\n(.*?)```", PAGE, re.DOTALL)


def limits() -> list[int]:
    """Of bodies, in bytes: that of the server, then that of the uploads."""
    assert _EXAMPLE is not None
    found = re.findall(r"client_max_body_size (\d+)m;", _EXAMPLE[1])
    return [int(each) * 1024**2 for each in found]


def test_the_parts_of_an_upload_pass_and_nothing_else_is_as_large():
    general, uploads = limits()
    assert uploads > UPLOAD_PART > general


def test_the_larger_limit_is_for_the_calls_that_upload():
    assert _EXAMPLE is not None
    block = re.search(r"location (\S+) {\s+client_max_body_size", _EXAMPLE[1])
    assert block is not None
    assert block[1] == "/api/admin/uploads/"
