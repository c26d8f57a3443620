"""``p2p-controller locate``."""

import argparse

from p2p.wire.messages import EventKind, Holder, HolderRun, Located, Refusal
from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_line, write_table
from p2p_controller.cli.prompt_keys import keys_of_prompt
from p2p_controller.client import ControllerClient, RequestRefusedError
from p2p_controller.views import LocateReport, named_views

_TIER_NAMES = {EventKind.ADMIT_DEVICE.value: "device", EventKind.ADMIT_HOST.value: "host"}


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints the runs of the longest prefix; fails if that is not all of it."""
    keys = keys_of_prompt(arguments)
    with connect(arguments) as client:
        _check_asker(client, arguments.as_instance)
        located = client.locate(
            arguments.namespace,
            keys,
            instance=arguments.as_instance,
            tenant=arguments.tenant,
            rank=arguments.rank,
        )
    report = LocateReport.of(located, len(keys))
    if arguments.json:
        write_json(report)
    else:
        _write(located, report.num_held, len(keys))
    return ExitCode.OK if report.num_held == len(keys) else ExitCode.FAILED


def _check_asker(client: ControllerClient, asker: str) -> None:
    """Raises for an asker that nobody knows; an instance may ask before it has registered."""
    refusal = named_views(client.instances(), asker) if asker else None
    if isinstance(refusal, Refusal):
        raise RequestRefusedError(client.address, refusal)


def _write(located: Located, num_held: int, num_keys: int) -> None:
    rows: list[tuple[str | int, ...]] = []
    for run in located.runs:
        names = ", ".join(_holders(located, run))
        rows.append((f"{run.start} to {run.start + run.count - 1}", run.count, names, run.more))
    if rows:
        write_table(Table(("chunks", "number", "holders, best first", "more"), rows))
    note = "; the directory is still being filled" if located.partial else ""
    write_line(f"{num_held} of {num_keys} chunks are held{note}")


def _holders(located: Located, run: HolderRun) -> list[str]:
    names = [_name(located.holders[index]) for index in run.holders]
    tiers = [_TIER_NAMES.get(tier, str(tier)) for tier in run.tiers]
    return [f"{name} ({tier})" for name, tier in zip(names, tiers, strict=False)] or names


def _name(holder: Holder) -> str:
    """Returns a holder with the ranks that the asking rank reads from, if one asks."""
    ranks = [f"rank {endpoint.rank} at {endpoint.address}" for endpoint in holder.ranks]
    return " ".join([holder.instance, *ranks])
