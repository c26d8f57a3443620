"""``p2p-controller instances``."""

import argparse

from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_line, write_table

_MIB = 1 << 20


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints one row an instance, then the namespaces with their ids."""
    with connect(arguments) as client:
        listed = client.instances()
    if arguments.json:
        write_json(listed)
        return ExitCode.OK
    if not listed.instances:
        write_line("no instances")
        return ExitCode.OK
    rows: list[tuple[str | int, ...]] = [
        (
            view.instance,
            view.state if view.synced else f"{view.state}, syncing",
            view.num_chunks,
            view.num_pinned,
            view.load_bytes // _MIB,
            f"{view.silent_ms / 1000:.1f} s ago",
            view.address,
            view.world_size,
            view.namespace.model,
        )
        for view in listed.instances
    ]
    sizes = ("chunks", "pinned", "lent MiB")
    columns = ("instance", "state", *sizes, "heard", "address", "ranks", "model")
    write_table(Table(columns, rows))
    namespaces = {view.namespace.id: view.namespace for view in listed.instances}
    described: list[tuple[str | int, ...]] = [
        (id_, space.model, space.kv_dtype, space.key_scheme, space.key_seed)
        for id_, space in sorted(namespaces.items())
    ]
    write_line("")
    write_table(Table(("namespace", "model", "KV dtype", "key scheme", "seed"), described))
    return ExitCode.OK
