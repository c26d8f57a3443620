"""``p2p-controller requests``."""

import argparse

from p2p.wire.messages import ListRequests, RequestList
from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_line, write_table
from p2p_controller.cli.reasons import ago


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints the last fetches that instances reported, newest first."""
    question = ListRequests(
        instance=arguments.instance, only_short=not arguments.all, limit=arguments.limit
    )
    with connect(arguments) as client:
        listed = client.ask(question, RequestList)
    if arguments.json:
        write_json(listed)
        return ExitCode.OK
    rows: list[tuple[str | int, ...]] = [
        (
            view.report.request,
            view.instance,
            ago(view.report.age_ms),
            view.report.num_keys,
            view.report.num_local,
            view.report.num_delivered,
            view.report.reason,
            view.report.detail,
        )
        for view in listed.requests
    ]
    if not rows:
        write_line("no request was reported" if arguments.all else "no short request was reported")
        return ExitCode.OK
    columns = ("request", "instance", "ended", "asked", "local", "delivered", "reason", "detail")
    write_table(Table(columns, rows))
    return ExitCode.OK
