"""Where pyrage has no wheel, encryption is refused, and nothing else."""

import subprocess
import sys


def test_without_the_library_encryption_is_refused_with_a_hint():
    script = """
import sys
sys.modules["pyrage"] = None
from app.encryption import Recipient, encrypted, make_identity, parse_recipient
from app.errors import ConfigurationError
known = Recipient("age1x")
for use in (make_identity, lambda: parse_recipient("age1x"), lambda: encrypted([], [known])):
    try:
        use()
    except ConfigurationError as error:
        print(error.in_words())
"""
    answer = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert answer.count("Error: encryption is not available on this machine") == 3
    assert answer.count("pip install pyrage") == 3
