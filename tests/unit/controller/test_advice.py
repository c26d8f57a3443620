"""What `doctor` advises: by what instances found, the worst first, and nothing if all is well."""

import pytest

from p2p.wire.messages import (
    ChannelState,
    ChannelView,
    DeviceView,
    Diagnosis,
    KernelView,
    LimitView,
    OwnChannel,
    PairView,
    ProcessPlace,
)
from p2p_controller.advice import DoctorReport, Level, report_of

PLACE = ProcessPlace(boot="b", pid_namespace="p", network_namespace="n", user=0)
USED = ChannelView(channel="shm", state=ChannelState.USED)


def diagnosis(**values: object) -> Diagnosis:
    settings: dict[str, object] = {
        "instance": "a",
        "incarnation": 1,
        "version": "0.1.0",
        "host": "h",
        "place": PLACE,
        **values,
    }
    return Diagnosis(**settings)  # type: ignore[arg-type]


def pair(*channels: ChannelView, used: str = "", slow: str = "") -> Diagnosis:
    view = PairView(
        instance="b", is_near=True, channel=used, transport="tcp", slow=slow, channels=channels
    )
    return diagnosis(pairs=(view,))


def report(*found: Diagnosis) -> DoctorReport:
    return report_of({one.instance: one for one in found}, {"a", "b"})


def test_where_all_is_well_there_is_no_advice():
    found = report(pair(USED, used="shm"))
    assert found.advice == ()
    assert not found.is_broken


def test_who_does_not_answer_is_broken_and_comes_first():
    slow = pair(USED, used="shm", slow="another PID namespace: run both with hostPID")
    found = report_of({"a": slow, "c": None}, {"a", "b", "c"})
    assert [(one.level, one.instance) for one in found.advice] == [
        (Level.BROKEN, "c"),
        (Level.SLOW, "a"),
    ]
    assert found.advice[1].text == "tcp: another PID namespace"
    assert found.advice[1].remedy == "run both with hostPID"
    assert found.silent == ("c",)
    assert found.is_broken


@pytest.mark.parametrize(
    ("state", "used", "level", "text"),
    [
        (ChannelState.DEMOTED, "nixl", Level.SLOW, "nixl instead of shm: shm: no answer"),
        (ChannelState.DEMOTED, "", Level.SLOW, "nothing instead of shm: shm: no answer"),
        (ChannelState.SPARE, "", Level.BROKEN, "no channel works (shm: shm: no answer)"),
        (ChannelState.REFUSED, "", Level.BROKEN, "no channel works (shm: shm: no answer)"),
    ],
)
def test_a_channel_that_fails_is_told_with_its_reason(state, used, level, text):
    (one,) = report(
        pair(ChannelView(channel="shm", state=state, reason="shm: no answer"), used=used)
    ).advice
    assert (one.level, one.subject, one.text) == (level, "reads from b", text)
    assert one.remedy


def test_how_a_peer_that_left_was_reached_is_of_no_concern():
    failed = pair(ChannelView(channel="shm", state=ChannelState.SPARE, reason="no answer"))
    assert report_of({"a": failed}, {"a"}).advice == ()
    assert len(report_of({"a": failed, "b": None}, {"a", "b"}).advice) == 1  # b is silent


@pytest.mark.parametrize(
    ("values", "level", "subject"),
    [
        ({"limits": (LimitView(name="x", found="1", fault="f"),)}, Level.SLOW, "x"),
        ({"channels": (OwnChannel(channel="nixl", is_open=False, detail="not installed"),)},
         Level.SLOW, "channel nixl"),
        ({"channels": (OwnChannel(channel="nixl", is_open=True, is_tested=False),)},
         Level.UNTESTED, "channel nixl"),
        ({"devices": (DeviceView(kind="npu", name="1 found", is_used=True),)},
         Level.UNTESTED, "device npu"),
        ({"devices": (DeviceView(kind="npu", name="none", state="no driver", is_used=True),)},
         Level.BROKEN, "device npu"),
        ({"kernels": (KernelView(device="cuda:0", implementation="triton", is_tested=False),)},
         Level.UNTESTED, "kernels triton"),
    ],
)  # fmt: skip
def test_a_finding_has_a_level_and_a_remedy(values, level, subject):
    (one,) = report(diagnosis(**values)).advice
    assert (one.level, one.subject) == (level, subject)
    assert one.remedy or level is Level.SLOW


def test_what_was_left_out_on_purpose_and_what_is_not_there_is_no_finding():
    left_out = OwnChannel(channel="shm", is_open=False, detail="the setting channels leaves it out")
    absent = DeviceView(kind="npu", name="none", state="no /dev/davinci0")
    assert report(diagnosis(channels=(left_out,), devices=(absent,))).advice == ()
