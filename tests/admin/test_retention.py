"""Retention and pins as pages."""

from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient
from markupsafe import escape

from app.services.retention import policies
from app.services.retention.rules import Policy
from tests.admin.test_backups import LIST, followed, row_of, seen, sent
from tests.api.test_downloads import dump_of
from tests.api.test_retention import ann, lying_in_a_store, panel, proven  # noqa: F401 - fixtures

PAGE = "/admin/retention"


def test_a_policy_is_tried_saved_and_carried_out(panel: Flask, ann: FlaskClient):  # noqa: F811
    names = [proven(panel, days) for days in (0.01, 1, 2)]
    page = seen(ann, PAGE)
    assert "There is no retention policy" in page.text
    assert page.link("Prune now…") is None
    answer = sent(ann, PAGE, PAGE, keep_last="1", **{"try": "1"})
    assert "Preview of this policy, not saved" in answer.text
    assert "Removed: 2" in answer.text
    assert seen(ann, PAGE).text.count("Removed: 0") == 1
    rules = {"keep_last": "1", "keep_within": "12h", "max_total_size": "1.5 GiB"}
    page = followed(ann, sent(ann, PAGE, PAGE, **rules, time_zone="Europe/Berlin"))
    assert "keep last 1, keep within 12h, at most 1.5 GiB; in Europe/Berlin" in page.text
    (form,) = [each for each in page.forms if each["action"] == PAGE]
    assert (form["field keep_last"], form["field keep_within"]) == ("1", "12h")
    assert form["field max_total_size"] == "1536 MiB"
    assert [each["title"] for each in page.all("a") if each.get("title")] == [
        *names[1:], names[0],
    ]  # fmt: skip
    page = seen(ann, page.link("Prune now…"))
    assert "2 of shop, 20.0 KiB in all; 1 are kept" in page.text
    assert sent(ann, f"{PAGE}/prune", f"{PAGE}/prune", name="").status_code == 422
    assert dump_of(panel, names[1]).exists()
    page = followed(ann, sent(ann, f"{PAGE}/prune", f"{PAGE}/prune", name="shop"))
    assert "Backups removed: 2, 20.0 KiB." in page.text
    assert [dump_of(panel, each).exists() for each in names] == [True, False, False]


def test_a_new_policy_is_confirmed_before_it_acts_by_itself(panel: Flask, ann: FlaskClient):  # noqa: F811
    for days in (0.01, 1, 2):
        proven(panel, days)
    notice = "The retention policy of shop is not confirmed"
    assert notice not in seen(ann, LIST).text
    page = followed(ann, sent(ann, PAGE, PAGE, keep_last="1"))
    assert "Nothing has been removed yet; now it would remove 2 backups (20.0 KiB)." in page.text
    assert "It removes nothing automatically until it is confirmed" in page.text
    assert notice in seen(ann, LIST).text
    question = page.link("Confirm the policy…")
    assert sent(ann, f"{PAGE}/confirm", question, name="crm").status_code == 422
    page = followed(ann, sent(ann, f"{PAGE}/confirm", question, name="shop"))
    assert "The retention policy is confirmed." in page.text
    assert notice not in seen(ann, LIST).text
    followed(ann, sent(ann, f"{PAGE}/prune", f"{PAGE}/prune", name="shop"))
    assert "Retention removed 2 backups (20.0 KiB)" in seen(ann, LIST).text


def test_what_cannot_be_meant_comes_back_with_what_was_typed(panel: Flask, ann: FlaskClient):  # noqa: F811
    for field, value, told in (
        ("keep_last", "-1", "Keep last must lie between"),
        ("keep_daily", "many", "Daily: Not a valid integer"),
        ("keep_within", "<b>soon", "is not a valid length of time"),
        ("max_total_size", "much", "is not a valid size"),
        ("time_zone", "Mars", "Not a valid time zone"),
    ):
        answer = sent(ann, PAGE, PAGE, **{field: value})
        assert (answer.status_code, told in answer.text) == (422, True), field
        assert str(escape(value)) in answer.text
        assert "<b>soon" not in answer.text
    with panel.app_context():
        assert policies.get_policy() == Policy()
    assert ann.post(f"{PAGE}/prune").status_code == 400


def test_a_pin_is_set_shown_and_taken_back(panel: Flask, ann: FlaskClient):  # noqa: F811
    name = proven(panel, 1)
    url = f"{LIST}/{name}"
    page = followed(ann, sent(ann, f"{url}/pin", url, reason="<i>audit</i>"))
    assert "<i>audit</i>" in page.text
    assert row_of(ann, name).all("span", title="<i>audit</i>")
    assert "The reason must have" in followed(ann, sent(ann, f"{url}/pin", url, reason="")).text
    assert "has been unpinned" in followed(ann, sent(ann, f"{url}/unpin", url)).text


def test_the_last_good_backup_is_told_as_such_before_it_is_deleted(panel: Flask, ann: FlaskClient):  # noqa: F811
    last, other = proven(panel, 0.01), proven(panel, 1)
    warning = "This is the last good backup of shop."
    assert warning not in seen(ann, f"{LIST}/{other}/delete").text
    assert sent(ann, f"{LIST}/{other}/delete", LIST, name="shop").location == LIST
    url = f"{LIST}/{last}/delete"
    page = seen(ann, url)
    assert warning in page.text
    assert not page.all("input", name="password")
    assert sent(ann, url, url, name="").status_code == 422
    assert dump_of(panel, last).exists()
    assert sent(ann, url, url, name="shop").location == LIST
    assert not dump_of(panel, last).exists()


def test_a_pinned_backup_is_unpinned_before_it_is_deleted(panel: Flask, ann: FlaskClient):  # noqa: F811
    name = proven(panel, 1)
    url = f"{LIST}/{name}/delete"
    sent(ann, f"{LIST}/{name}/pin", LIST, reason="<i>audit</i>")
    page = seen(ann, url)
    assert "It is pinned: <i>audit</i>. Unpin it first." in page.text
    assert not page.all("input", name="name")
    refused = followed(ann, sent(ann, url, url, name="shop"))
    assert "is pinned: unpin it first" in refused.text
    assert dump_of(panel, name).exists()
    followed(ann, sent(ann, f"{LIST}/{name}/unpin", url))
    assert sent(ann, url, url, name="shop").location == LIST


def test_the_policy_of_a_store_is_saved_confirmed_and_carried_out(
    panel: Flask,  # noqa: F811
    ann: FlaskClient,  # noqa: F811
    tmp_path: Path,
):
    assert "Here" not in seen(ann, PAGE).text
    names = lying_in_a_store(panel, tmp_path)
    there = f"{PAGE}?store=nas"
    page = seen(ann, seen(ann, PAGE).link("nas"))
    assert "Which copies of shop are kept in nas" in page.text
    page = followed(ann, sent(ann, there, there, keep_last="1"))
    assert "now it would remove 2 backups (20 Bytes)." in page.text
    assert "after each copy to nas of a scheduled backup" in page.text
    assert "There is no retention policy" in seen(ann, PAGE).text
    question = page.link("Confirm the policy…")
    assert "Remove these copies from nas?" in seen(ann, question).text
    page = followed(ann, sent(ann, f"{PAGE}/confirm?store=nas", question, name="shop"))
    assert "The retention policy is confirmed." in page.text
    page = followed(ann, sent(ann, f"{PAGE}/prune?store=nas", question, name="shop"))
    assert "Copies removed from nas: 2, 20 Bytes." in page.text
    assert [each["title"] for each in page.all("span") if each.get("title") in names] == names[:1]
    assert seen(ann, "/admin/stores/nas").link("Retention") == there
