"""What to change, by what the instances have found and how they reach each other. Pure."""

from collections.abc import Collection, Iterator
from enum import Enum

import msgspec

from p2p.wire.messages import ChannelState, Diagnosis, PairView

_RANK = {"broken": 0, "slow": 1, "untested": 2}


class Level(Enum):
    """How bad it is. Only what is broken makes `doctor` fail."""

    BROKEN = "broken"
    SLOW = "slow"
    UNTESTED = "untested"


class Advice(msgspec.Struct, frozen=True):
    """One thing that could be better.

    Attributes:
        level: how bad it is.
        instance: where.
        subject: what it is about: a peer, a limit, a device, a channel.
        text: what is wrong.
        remedy: what to change; empty if nothing is known to help.
    """

    level: Level
    instance: str
    subject: str
    text: str
    remedy: str = ""


class DoctorReport(msgspec.Struct, frozen=True):
    """What was collected.

    Attributes:
        diagnoses: of each instance that answered.
        silent: instances that did not.
        advice: the worst first.
    """

    diagnoses: dict[str, Diagnosis]
    silent: tuple[str, ...]
    advice: tuple[Advice, ...]

    @property
    def is_broken(self) -> bool:
        """Something does not work."""
        return any(advice.level is Level.BROKEN for advice in self.advice)


def report_of(answers: dict[str, Diagnosis | None], known: Collection[str]) -> DoctorReport:
    """Returns what follows from the answers; None stands for who did not answer.

    Args:
        answers: by instance.
        known: all instances that the controller knows: how others were reached is of no concern.
    """
    diagnoses = {name: answer for name, answer in answers.items() if answer is not None}
    silent = tuple(name for name, answer in answers.items() if answer is None)
    found = [*map(_on_silence, silent)]
    for diagnosis in diagnoses.values():
        found += [*_on_channels(diagnosis), *_on_limits(diagnosis), *_on_hardware(diagnosis)]
        for pair in diagnosis.pairs:
            if pair.instance in known and pair.instance not in silent:
                found += _on_pair(diagnosis, pair)
    found.sort(key=lambda advice: (_RANK[advice.level.value], advice.instance, advice.subject))
    return DoctorReport(diagnoses, silent, tuple(found))


def _on_silence(name: str) -> Advice:
    return Advice(
        Level.BROKEN,
        name,
        "instance",
        "does not answer, though the controller knows it",
        "look whether its process runs, and whether its address can be reached from here",
    )


def _on_channels(diagnosis: Diagnosis) -> Iterator[Advice]:
    for one in diagnosis.channels:
        is_left_out = "leaves it out" in one.detail
        if not one.is_open and not is_left_out:
            remedy = "install what it needs, or leave it out with the setting channels"
            yield Advice(
                Level.SLOW, diagnosis.instance, f"channel {one.channel}", one.detail, remedy
            )
        if one.is_open and not one.is_tested:
            yield _untested(diagnosis, f"channel {one.channel}", "over adapters for RDMA")


def _on_limits(diagnosis: Diagnosis) -> Iterator[Advice]:
    for limit in diagnosis.limits:
        if limit.fault:
            text = f"is {limit.found}: {limit.fault}"
            yield Advice(Level.SLOW, diagnosis.instance, limit.name, text, limit.advice)


def _on_hardware(diagnosis: Diagnosis) -> Iterator[Advice]:
    for device in diagnosis.devices:
        if not device.is_used:
            continue
        if device.state:
            remedy = "repair the driver, or set device to another one"
            subject = f"device {device.kind}"
            yield Advice(Level.BROKEN, diagnosis.instance, subject, device.state, remedy)
        elif not device.is_tested:
            yield _untested(diagnosis, f"device {device.kind}", "caches on it")
    for kernel in diagnosis.kernels:
        if not kernel.is_tested:
            yield _untested(diagnosis, f"kernels {kernel.implementation}", f"on {kernel.device}")


def _on_pair(diagnosis: Diagnosis, pair: PairView) -> Iterator[Advice]:
    name, subject = diagnosis.instance, f"reads from {pair.instance}"
    if pair.slow:
        text, _, remedy = pair.slow.partition(": ")
        yield Advice(Level.SLOW, name, subject, f"{pair.transport}: {text}", remedy)
    for one in pair.channels:
        if one.state is ChannelState.DEMOTED:
            text = f"{pair.channel or 'nothing'} instead of {one.channel}: {one.reason}"
            remedy = "it is tried again by itself; look at the reason if it stays"
            yield Advice(Level.SLOW, name, subject, text, remedy)
    states = {one.state for one in pair.channels}
    if pair.channel or ChannelState.DEMOTED in states:
        return
    reasons = "; ".join(f"{one.channel}: {one.reason}" for one in pair.channels)
    if ChannelState.SPARE in states:
        remedy = "look whether that instance can be reached from there"
    else:
        remedy = "give both a channel in common: the settings channels and peer_channels"
    yield Advice(Level.BROKEN, name, subject, f"no channel works ({reasons})", remedy)


def _untested(diagnosis: Diagnosis, subject: str, what: str) -> Advice:
    text = f"untested on hardware: {what}"
    remedy = "compare what is read with what was stored before you rely on it"
    return Advice(Level.UNTESTED, diagnosis.instance, subject, text, remedy)
