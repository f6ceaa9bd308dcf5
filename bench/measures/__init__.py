"""All measures by name: each is given a world and yields rows of the table."""

from collections.abc import Callable, Iterator

from bench.harness import Row
from bench.measures.backups import backup, load, small, tables
from bench.measures.catalogue import catalogue
from bench.measures.checking import check
from bench.measures.copies import beside_copies, encryption, stores
from bench.measures.restores import replace, restore_test
from bench.measures.serving import clients, download, memory
from bench.measures.starting import starting
from bench.measures.waiting import waiting
from bench.world import World

Measure = Callable[[World], Iterator[Row]]

MEASURES: dict[str, Measure] = {
    "backup": backup,
    "small": small,
    "tables": tables,
    "load": load,
    "waiting": waiting,
    "restore-test": restore_test,
    "replace": replace,
    "download": download,
    "clients": clients,
    "memory": memory,
    "catalogue": catalogue,
    "starting": starting,
    "check": check,
    "beside-copies": beside_copies,
    "stores": stores,
    "encryption": encryption,
}
