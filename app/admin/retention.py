"""Retention: the policy, what it would do, and the button that does it."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.admin.choice import chosen_database, chosen_store
from app.admin.forms import DropForm, RetentionForm
from app.auth import signed_in_admin
from app.describing import outlook_text, policy_form, tally_text
from app.errors import AppError, InvalidInput
from app.formatting import bytes_text
from app.models import Database, Store
from app.services.retention import policies
from app.services.retention import prune as pruning
from app.services.retention.periods import PERIODS, length_of
from app.services.retention.rules import Policy
from app.services.schedules.outlook import get_outlook
from app.services.stores.lookup import list_stores
from app.wording import _, said

blueprint = Blueprint("retention", __name__, url_prefix="/retention")

_SHOWN = 200  # backups of each kind


@blueprint.get("")
def index() -> ResponseReturnValue:
    """The policy, and what it would do now."""
    policy = policies.get_policy(chosen_database(), chosen_store())
    return _page(RetentionForm(formdata=None, **policy_form(policy)))


@blueprint.post("")
def update() -> ResponseReturnValue:
    """Save the policy, or preview it."""
    database, store, form = chosen_database(), chosen_store(), RetentionForm()
    try:
        policy = _policy_of(form)
        if "try" in request.form:
            return _page(form, tried=policy)
        policies.set_policy(policy, database, store, by=signed_in_admin().username)
    except InvalidInput as error:
        return _page(form, error), 422
    outlook = get_outlook(database, store, limit=0)
    flash(
        _(
            "The retention policy has been saved. Nothing has been removed yet; now it would"
            " remove %(backups)s. %(when)s",
            backups=tally_text(outlook.preview.removed),
            when=outlook_text(outlook),
        ),
        "success",
    )
    return redirect(url_for(".index"))


@blueprint.get("/prune")
def confirm_prune() -> ResponseReturnValue:
    """Ask before backups are removed."""
    return _question(chosen_database(), chosen_store(), DropForm())


@blueprint.post("/prune")
def prune() -> ResponseReturnValue:
    """Remove what the policy does not keep, if the database was named."""
    database, store, form = chosen_database(), chosen_store(), DropForm()
    if not _is_named(database, form):
        return _question(database, store, form), 422
    done = pruning.prune(database, store, by=signed_in_admin().username)
    what = {"number": len(done.removed), "size": bytes_text(done.size)}
    flash(
        _("Copies removed from %(store)s: %(number)s, %(size)s.", store=store.name, **what)
        if store
        else _("Backups removed: %(number)s, %(size)s.", **what),
        "success",
    )
    for name, why in list((done.spared | done.failed).items())[:_SHOWN]:
        flash(
            _("%(name)s was not removed: %(why)s.", name=name, why=said(why)),
            "danger" if name in done.failed else "warning",
        )
    return redirect(url_for(".index"))


@blueprint.post("/confirm")
def confirm() -> ResponseReturnValue:
    """Let scheduled backups remove what the policy does not keep, if the database was named."""
    database, store, form = chosen_database(), chosen_store(), DropForm()
    if not _is_named(database, form):
        return _question(database, store, form), 422
    policy, by = policies.get_policy(database, store), signed_in_admin().username
    policies.confirm_policy(policy, database, store, by=by)
    when = outlook_text(get_outlook(database, store, limit=0))
    flash(_("The retention policy is confirmed. %(when)s", when=when), "success")
    return redirect(url_for(".index"))


def _is_named(database: Database, form: DropForm) -> bool:
    if (form.name.data or "").strip() == database.name:
        return True
    form.name.errors = [_("Type %(name)s to remove its backups.", name=database.name)]
    return False


def _question(database: Database, store: Store | None, form: DropForm) -> str:
    outlook = get_outlook(database, store, limit=_SHOWN)
    return render_template(
        "retention/prune.html", form=form, outlook=outlook, database=database, store=store
    )


def _policy_of(form: RetentionForm) -> Policy:
    """The policy on the form. Raises InvalidInput."""
    if not form.validate():
        problems = [
            f"{form[name].label.text}: {text}"
            for name, texts in form.errors.items()
            for text in texts
        ]
        raise InvalidInput("invalid policy", detail=" ".join(problems))
    within, size = (form[name].data or "" for name in ("keep_within", "max_total_size"))
    policy = Policy(
        **{name: form[name].data for name in ("keep_last", *PERIODS)},
        keep_within=length_of(within) if within.strip() else None,
        max_total_size=policies.size_of(size) if size.strip() else None,
        time_zone=(form.time_zone.data or "").strip() or "UTC",
    )
    policies.refuse_wrong(policy)
    return policy


def _page(form: RetentionForm, error: AppError | None = None, tried: Policy | None = None) -> str:
    database, store = chosen_database(), chosen_store()
    outlook, preview = get_outlook(database, store, limit=_SHOWN), None
    if tried is not None:
        preview = pruning.preview(database, store, policy=tried, limit=_SHOWN)
    return render_template(
        "retention/index.html",
        form=form,
        error=error,
        tried=tried,
        database=database,
        store=store,
        stores=list_stores(),
        outlook=outlook,
        preview=preview or outlook.preview,
    )
