"""Face: the terminal. Parses, calls one service function, prints."""

from flask import Flask

from app.cli import (
    admin,
    alarm,
    assertion,
    audit,
    backup,
    contents,
    copy,
    database,
    database_server,
    doctor,
    download,
    mending,
    notifier,
    panel,
    recover,
    restore,
    retention,
    schedule,
    server,
    settings,
    store,
    web,
    worker,
)


def init_app(app: Flask) -> None:
    """Make the commands known to flask."""
    app.cli.add_command(admin.group)
    app.cli.add_command(alarm.group)
    app.cli.add_command(assertion.group)
    app.cli.add_command(audit.group)
    backup.group.add_command(contents.contents)
    backup.group.add_command(contents.schema)
    backup.group.add_command(contents.compare)
    backup.group.add_command(download.download)
    for command in (mending.check, mending.rebuild, mending.reconcile_, mending.trust_):
        backup.group.add_command(command)
    backup.group.add_command(restore.drill)
    backup.group.add_command(restore.restore_)
    backup.group.add_command(retention.prune)
    backup.group.add_command(retention.pin)
    backup.group.add_command(retention.unpin)
    app.cli.add_command(backup.group)
    for command in (database_server.discover, database_server.grants, database_server.test):
        database.group.add_command(command)
    app.cli.add_command(database.group)
    app.cli.add_command(copy.group)
    app.cli.add_command(notifier.group)
    app.cli.add_command(retention.group)
    app.cli.add_command(restore.group)
    app.cli.add_command(schedule.group)
    app.cli.add_command(server.group)
    app.cli.add_command(settings.group)
    app.cli.add_command(store.group)
    app.cli.add_command(doctor.doctor)
    app.cli.add_command(panel.panel)
    app.cli.add_command(recover.recover)
    app.cli.add_command(web.web)
    app.cli.add_command(worker.worker)
