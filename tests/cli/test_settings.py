"""flask settings: written into a file and read again."""

import json
from pathlib import Path

from click.testing import Result
from flask import Flask


def test_settings_go_into_a_file_and_come_back(app: Flask, tmp_path: Path):
    def run(*words: str, **more: str) -> Result:
        return app.test_cli_runner().invoke(args=["settings", *words], **more)

    app.test_cli_runner().invoke(args=["assertion", "add", "orders", "SELECT\ntrue"])
    file = tmp_path / "backstop.toml"
    assert run("export", str(file)).exit_code == 0
    assert file.read_text() == run("export").stdout
    assert 'name = "orders"' in file.read_text()
    assert run("import", str(file)).stdout == "Nothing to change.\n"
    file.write_text(file.read_text().replace("true", "1 = 1"))
    assert run("import", "--dry-run", str(file)).stdout == (
        'would be: assertion "orders" changed: statement\n'
    )
    told = run("import", "--json", "-", input=file.read_text()).stdout
    assert json.loads(told) == {
        "changes": ['assertion "orders" changed: statement'],
        "dryRun": False,
    }
    wrong = run("import", "-", input="[[secrets]]")
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith('Error: unknown kind of setting: "secrets"\nHint: Kinds are ')
