"""The page of settings: what a text would change, then kept."""

import re

from flask.testing import FlaskClient

TEXT = '[[assertions]]\nname = "<b>orders"\nstatement = "SELECT true"\n'


def test_a_text_is_first_told_then_kept(admin: FlaskClient):
    def send(**fields: str):
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
        assert token
        return admin.post("/admin/settings", data={"csrf_token": token[1], **fields})

    page = admin.get("/admin/settings")
    told = send(text=TEXT)
    assert "assertion &#34;&lt;b&gt;orders&#34; added" in told.text
    assert "None yet" in admin.get("/admin/assertions").text
    assert send(text=TEXT, keep="1").status_code == 302
    assert "&lt;b&gt;orders" in admin.get("/admin/assertions").text
    assert "Nothing to change." in send(text=TEXT).text
    wrong = send(text="[[secrets]]", keep="1")
    assert wrong.status_code == 422
    assert "nknown kind of setting: &#34;secrets&#34;" in wrong.text
    file = admin.get("/admin/settings/export")
    assert file.headers["Content-Disposition"] == 'attachment; filename="backstop.toml"'
    assert 'name = "<b>orders"' in file.text
