"""``p2p-controller explain``."""

import argparse

from p2p.errors import ArgumentError
from p2p.keys import join_keys
from p2p.wire.messages import Explain, Explained, Finding
from p2p_controller.cli.asking import connect
from p2p_controller.cli.exit_code import ExitCode
from p2p_controller.cli.output import Table, write_json, write_line, write_table
from p2p_controller.cli.prompt_keys import keys_of_prompt
from p2p_controller.cli.reasons import ago, is_explained, summary


def run(arguments: argparse.Namespace) -> ExitCode:
    """Prints why a hit was short; fails if that is not known."""
    question = _question(arguments)
    with connect(arguments) as client:
        answer = client.ask(question, Explained)
    if arguments.json:
        write_json({"summary": summary(answer, arguments.request), "explained": answer})
    else:
        _write(answer, arguments.request)
    return ExitCode.OK if is_explained(answer) else ExitCode.FAILED


def _question(arguments: argparse.Namespace) -> Explain:
    has_keys = bool(arguments.keys or arguments.keys_file or arguments.tokens_file)
    blob, key_bytes = join_keys(
        keys_of_prompt(arguments) if has_keys or not arguments.request else []
    )
    if not (arguments.namespace or arguments.as_instance or arguments.request):
        raise ArgumentError("--namespace", "", "name it, or --as-instance, or --request")
    return Explain(
        namespace=arguments.namespace,
        keys=blob,
        key_bytes=key_bytes,
        instance=arguments.as_instance,
        tenant=arguments.tenant,
        request=arguments.request,
    )


def _write(answer: Explained, request: str) -> None:
    if answer.findings:
        rows = [_row(one) for one in answer.findings]
        write_table(Table(("chunks", "reason", "instance", "when", "detail"), rows))
    if answer.more:
        write_line(f"and {answer.more} more findings")
    if answer.partial:
        write_line("the directory is still being filled after a restart")
    write_line(summary(answer, request))


def _row(one: Finding) -> tuple[str | int, ...]:
    chunks = str(one.position)
    if one.count > 1:
        chunks = f"{one.position} to {one.position + one.count - 1}"
    differs = f"{one.field} is {one.theirs!r} there, {one.ours!r} here" if one.field else ""
    reported = f"request {one.request}" if one.request else ""
    detail = "; ".join(part for part in (differs, one.detail, reported) if part)
    return chunks, one.why.value, one.instance, ago(one.age_ms), detail
