import logging

import pytest

from p2p.agent.ucx_log import UNKNOWN, UcxLog

PREFIX = "[1795492872.828600] [host:4249 :0]   "


def table(agent: str, operation: str, config: str) -> str:
    lines = [
        "+--------+-------------+---------+",
        f"| {agent} intra-node cfg#1 |",
        f"| {operation} |",
        "+--------+-------------+---------+",
        "| Range  | Description | Config  |",
        f"| 0..inf | zero-copy   | {config} |",
    ]
    return "".join(f"{PREFIX}{line}\n" for line in lines)


def written(text: str) -> UcxLog:
    log = UcxLog()
    with open(log.path, "wb") as file:  # noqa: PTH123
        file.write(text.encode())
    return log


@pytest.mark.parametrize(
    ("config", "transport"),
    [
        ("cma/memory", "cma"),
        ("tcp/lo", "tcp"),
        ("52% on tcp/lo and 48% on tcp/eth0", "tcp"),
        ("rc_mlx5/mlx5_0:1/path0", "rc_mlx5"),
        ("50% on rc_mlx5/mlx5_0:1 and 50% on dc_mlx5/mlx5_1:1", "rc_mlx5+dc_mlx5"),
        ("cuda_ipc/cuda", "cuda_ipc"),
        ("", UNKNOWN),
    ],
)
def test_the_transport_of_reads_is_found(config, transport):
    log = written(table("probe-1", "remote memory read by ucp_get*(multi) into host", config))
    assert log.take_transport("probe-1") == transport
    assert log.take_transport("probe-1") == UNKNOWN


def test_other_operations_and_other_agents_do_not_count():
    log = written(
        table("probe-1", "remote memory read by ucp_get*(multi) into host", "cma/memory")
        + table("probe-1", "active message by ucp_am_send* from host memory", "tcp/lo")
        + table("probe-2", "remote memory write by ucp_put* from host", "tcp/lo")
    )
    assert log.take_transport("probe-2") == UNKNOWN
    assert log.take_transport("probe-1") == "cma"


def test_half_a_line_is_read_when_it_is_whole():
    text = table("probe-1", "remote memory read by ucp_get*(multi) into host", "cma/memory")
    log = written(text[:-10])
    assert log.take_transport("probe-1") == UNKNOWN
    with open(log.path, "r+b") as file:  # noqa: PTH123
        file.write(text.encode())
    assert log.take_transport("probe-1") == "cma"


def test_warnings_go_to_our_logger(caplog):
    lines = (
        "ep.c:7 UCX  ERROR no memory",
        "m.c:8 UCX  WARN  x was not returned to mpool y",
        "s.c:9 UCX  ERROR connect(fd=8) failed: Connection refused",
    )
    text = "".join(f"{PREFIX}{line}\n" for line in lines)
    with caplog.at_level(logging.WARNING):
        assert written(text).take_transport("probe-1") == UNKNOWN
    assert [record.message for record in caplog.records] == ["UCX ERROR: no memory"]


def test_what_was_read_gives_its_memory_back():
    log = written("x\n" * 40_000 + table("a", "remote memory read by ucp_get*", "cma/memory"))
    assert log.take_transport("a") == "cma"
    with open(log.path, "rb") as file:  # noqa: PTH123
        assert file.read(64_000).count(0) == 64_000
