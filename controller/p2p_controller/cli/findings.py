"""Puts into words what `doctor` has collected."""

from collections.abc import Iterator

from p2p.wire.messages import ChannelState, Diagnosis, PairView
from p2p_controller.advice import DoctorReport
from p2p_controller.cli.output import Table, write_line, write_table

_MARK = {True: "", False: "  (untested on hardware)"}


def write_report(report: DoctorReport) -> None:
    """Writes every instance's findings, and what to change."""
    if not report.diagnoses and not report.silent:
        write_line("no instances")
    for _, diagnosis in sorted(report.diagnoses.items()):
        for line in _machine(diagnosis):
            write_line(line)
        if diagnosis.pairs:
            write_table(_pairs(diagnosis))
        write_line("")
    for line in _outcome(report):
        write_line(line)


def _outcome(report: DoctorReport) -> Iterator[str]:
    """Yields what to change."""
    for name in report.silent:
        yield f"{name} did not answer"
    if report.advice:
        yield "what to change:"
    elif report.diagnoses:
        yield "nothing to change"
    for advice in report.advice:
        yield f"  {advice.level.value:8} {advice.instance}: {advice.subject}: {advice.text}"
        if advice.remedy:
            yield f"           -> {advice.remedy}"


def _machine(diagnosis: Diagnosis) -> Iterator[str]:
    """Yields what was found on an instance's machine, a line each."""
    yield f"{diagnosis.instance}  (version {diagnosis.version}, host {diagnosis.host})"
    yield from _devices(diagnosis)
    for limit in diagnosis.limits:
        yield f"  limit    {limit.name} = {limit.found}{'  (!)' if limit.fault else ''}"
    for one in diagnosis.channels:
        state = "open" if one.is_open else "not open"
        detail = f": {one.detail}" if one.detail else ""
        yield f"  channel  {one.channel} {state}{detail}{_MARK[one.is_tested]}"
    for kernel in diagnosis.kernels:
        text = f"{kernel.implementation} on {kernel.device}: {kernel.choice}"
        yield f"  kernels  {text}{_MARK[kernel.is_tested]}"
    if not diagnosis.kernels:
        yield "  kernels  no paged cache is registered in this process"


def _devices(diagnosis: Diagnosis) -> Iterator[str]:
    absent = [device.kind for device in diagnosis.devices if device.state and not device.is_used]
    for device in diagnosis.devices:
        if device.kind not in absent:
            use = ", holds the cache" if device.is_used else ""
            state = f": {device.state}" if device.state else ""
            yield f"  device   {device.kind}: {device.name}{use}{state}{_MARK[device.is_tested]}"
    if absent:
        yield f"  device   not here: {', '.join(absent)}"
    for nic in diagnosis.nics:
        speed = f", {nic.mbit_per_s / 1000:g} Gbit/s" if nic.mbit_per_s else ""
        yield f"  network  {nic.name}: {nic.kind}, {'up' if nic.has_carrier else 'down'}{speed}"


def _pairs(diagnosis: Diagnosis) -> Table:
    columns = ("reads from", "where", "channel", "transport", "4 KiB", "MB/s", "why no better one")
    rows = [
        (
            pair.instance,
            "same host" if pair.is_near else "elsewhere",
            pair.channel or "none",
            pair.transport or "-",
            f"{pair.latency_ns / 1000:.0f} us" if pair.channel else "-",
            str(pair.bytes_per_s // 1_000_000) if pair.bytes_per_s else "-",
            _why(pair),
        )
        for pair in diagnosis.pairs
    ]
    return Table(columns, rows)


def _why(pair: PairView) -> str:
    """Returns why each other channel does not serve, but for those that could."""
    reasons = [
        f"{one.channel}: {one.reason.removeprefix(one.channel + ': ')}{_retry(one.retry_ms)}"
        for one in pair.channels
        if one.state not in {ChannelState.USED, ChannelState.SPARE}
    ]
    return "; ".join([*filter(None, [pair.slow]), *reasons]) or "-"


def _retry(retry_ms: int) -> str:
    return f" (again in {retry_ms / 1000:.0f} s)" if retry_ms else ""
