"""The controller as a process: serving, its command line, keys, restarts, errors, signals."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from p2p.errors import PeerUnreachableError
from p2p.keys import chunk_keys
from p2p.wire.curve import load_keys, make_keys
from p2p.wire.messages import FeedStatus, OrderResult, Registered, Want
from p2p_controller.cli import output
from p2p_controller.client import ControllerClient, RequestRefusedError
from tests.e2e.controller_process import ControllerProcess, environment, run_cli
from tests.unit.controller.instances import NAMESPACE, Instance, key, keys

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def controller():
    lasting = ("--set", "silent_after_s=3600", "--set", "forget_after_s=3600")
    with ControllerProcess(*lasting) as process:
        with ControllerClient(process.address) as client:
            p, q = Instance("p"), Instance("q")
            for instance, numbers in ((p, range(8)), (q, range(4, 10))):
                join(client, instance)
                client.ask(instance.admit(*numbers), FeedStatus)
        yield process
        status, _ = process.end()
        assert status == 0


def join(client: ControllerClient, instance: Instance) -> None:
    instance.epoch = client.ask(instance.register(), Registered).epoch


def test_a_client_registers_reports_and_asks():
    with ControllerProcess() as process, ControllerClient(process.address) as client:
        p = Instance("p")
        join(client, p)
        client.ask(p.admit(1, 2, 3), FeedStatus)
        assert client.ask(p.heartbeat(load_bytes=7), FeedStatus).want is Want.NOTHING
        located = client.locate(NAMESPACE.id, keys(1, 2, 3, 4))
        assert [(run.start, run.count) for run in located.runs] == [(0, 3)]
        assert located.holders[0].instance == "p"
        assert located.partial
        assert [view.instance for view in client.instances().instances] == ["p"]
        status = client.status()
        assert (status.num_instances, status.num_keys, status.num_entries) == (1, 3, 3)


def test_a_restart_on_the_same_port_is_found_by_the_old_connection():
    at_once = ("--set", "recovery_s=0")
    with (
        ControllerProcess(*at_once) as first,
        ControllerClient(first.address, timeout_s=15.0) as client,
    ):
        p = Instance("p")
        join(client, p)
        client.ask(p.admit(1, 2), FeedStatus)
        status, _ = first.end(signal.SIGKILL)
        assert status == -signal.SIGKILL
        with ControllerProcess(*at_once, bind=first.address):
            assert client.ask(p.heartbeat(), FeedStatus).want is Want.REGISTER
            old_epoch = p.epoch
            join(client, p)
            assert p.epoch != old_epoch
            page = p.page(1, 0, [1, 2], last=True, start_seq=p.last_seq)
            assert client.ask(page, FeedStatus).acked_seq == 2
            assert client.locate(NAMESPACE.id, keys(1, 2)).runs[0].count == 2
            assert not client.status().partial


def test_tables_show_what_is_there(controller):
    done = controller.cli("instances")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^p +alive.* 8 .*tcp://p:7700", done.stdout, re.MULTILINE)
    assert NAMESPACE.id in done.stdout
    done = controller.cli("status")
    assert re.search(r"^instances +2$", done.stdout, re.MULTILINE)
    assert re.search(r"^keys +10$", done.stdout, re.MULTILINE)


def test_json_is_for_programs(controller):
    listed = json.loads(controller.cli("instances", "--json").stdout)
    assert [view["instance"] for view in listed["instances"]] == ["p", "q"]
    status = json.loads(controller.cli("status", "--json").stdout)
    assert (status["num_instances"], status["num_entries"]) == (2, 14)


def test_locate_shows_runs_and_says_whether_all_is_held(controller):
    words = [key(number).hex() for number in range(10)]
    done = controller.cli("locate", "--namespace", NAMESPACE.id, *words)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^0 to 3 +4  p ", done.stdout, re.MULTILINE)
    assert re.search(r"^8 to 9 +2  q ", done.stdout, re.MULTILINE)
    assert "10 of 10 chunks are held" in done.stdout
    done = controller.cli("locate", "--namespace", NAMESPACE.id, "--json", *words, "ff" * 32)
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert (answer["num_keys"], answer["num_held"], len(answer["located"]["runs"])) == (11, 10, 3)


def test_locate_shows_the_counterparts_of_a_rank(controller):
    asked = ("locate", "--namespace", NAMESPACE.id, "--as-instance", "q", key(0).hex())
    done = controller.cli(*asked, "--rank", "0")
    assert done.returncode == 0, done.stderr
    assert "p rank 0 at tcp://p:7700 (device)" in done.stdout
    done = controller.cli(*asked, "--rank", "1")
    assert done.returncode == 1
    assert "rank = 1: there are 1 ranks" in done.stderr


def test_keys_come_from_files_standard_input_and_tokens(controller, tmp_path):
    file = tmp_path / "keys.txt"
    file.write_text("\n".join(key(number).hex() for number in range(3)))
    locate = ("locate", "--namespace", NAMESPACE.id, "--json")
    assert json.loads(controller.cli(*locate, "--keys-file", str(file)).stdout)["num_held"] == 3
    done = run_cli(
        *locate, "--keys-file", "-", "--controller", controller.address, stdin=key(0).hex()
    )
    assert json.loads(done.stdout)["num_held"] == 1
    tokens = tmp_path / "tokens"
    made = [chunk.hex() for chunk in chunk_keys(range(130), 64, seed="s", salt="t")]
    assert len(made) == 2
    for text in (json.dumps(list(range(130))), " ".join(map(str, range(130)))):
        tokens.write_text(text)
        words = ("--tokens-file", str(tokens), "--chunk-tokens", "64", "--seed", "s", "--salt", "t")
        done = controller.cli(*locate, *words)
        assert (done.returncode, json.loads(done.stdout)["num_keys"]) == (1, 2)


def test_clear_waits_for_reports_and_fails_if_one_is_missing():
    with ControllerProcess() as process, ControllerClient(process.address) as client:
        p = Instance("p")
        join(client, p)
        done = process.cli("clear", "--wait", "0.2")
        assert done.returncode == 1
        why = done.stdout.splitlines()[1].split(maxsplit=4)[4]
        assert why in {
            "did not report in time",
            "is not heard",
        }
        answers = []
        asking = threading.Thread(target=lambda: answers.append(process.cli("clear", "--json")))
        asking.start()
        reported: set[int] = set()
        while asking.is_alive():
            status = client.ask(p.heartbeat(), FeedStatus)
            for order in status.orders or ():
                report = OrderResult(id=order.id, num_chunks=5)
                client.ask(p.heartbeat(orders_done=(report,)), FeedStatus)
                reported.add(order.id)
        asking.join()
        assert answers[0].returncode == 0, answers[0].stderr
        (row,) = json.loads(answers[0].stdout)["reports"]
        assert row == {"instance": "p", "did": "dropped", "num_chunks": 5}
        assert len(reported) == 1, "the first one was taken back"


def test_shutdown_ends_the_process_orderly():
    with ControllerProcess() as process:
        done = process.cli("shutdown")
        assert (done.returncode, process.address in done.stdout) == (0, True)
        status, log = process.wait()
        assert status == 0
        assert "Traceback" not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_process_orderly(number):
    with ControllerProcess() as process:
        status, log = process.end(number)
        assert status == 0
        assert "has ended" in log
        assert "Traceback" not in log


def failed(done: "subprocess.CompletedProcess[str]", code: int, *parts: str) -> bool:
    """True if a command ended with a code and one line on stderr that has all parts."""
    one_line = done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    return done.returncode == code and one_line and all(part in done.stderr for part in parts)


def test_nobody_there_is_3():
    with socket.socket() as unused:  # bound and not listening
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        done = run_cli("status", "--controller", address, "--timeout", "0.2")
    assert failed(done, 3, address, "GetStatus")


def test_a_refusal_is_1(controller):
    done = controller.cli("clear", "--instance", "nobody")
    assert failed(done, 1, "unknown_instance", "'nobody'")


def test_a_port_in_use_is_2_and_named(controller):
    assert failed(run_cli("serve", "--bind", controller.address), 2, "bind", controller.address)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--set", "heartbeat_s=x"], ["controller.heartbeat_s", "'x'"]),
        (["--set", "colour=blue"], ["controller.colour", "'blue'"]),
        (["--set", "silent_after_s=1"], ["controller.silent_after_s", "1.0"]),
        (["--set", "nonsense"], ["nonsense", "KEY=VALUE"]),
        (["--bind", "localhost"], ["bind", "'localhost'"]),
        (["--bind", "tcp://127.0.0.1:99999"], ["bind", "99999"]),
        (["--config", "/no/such/file"], ["config", "/no/such/file"]),
        (["--keys-dir", "/no/such/folder"], ["keys_dir", "controller.key_secret"]),
    ],
)
def test_bad_settings_are_2_and_named(words, parts):
    assert failed(run_cli("serve", *words), 2, *parts)


def test_a_bad_file_and_a_bad_variable_are_2(tmp_path):
    file = tmp_path / "p2p.toml"
    file.write_text("[controller]\nlog_level = 'LOUD'\n")
    assert failed(run_cli("serve", "--config", str(file)), 2, "controller.log_level", "'LOUD'")
    done = run_cli("serve", P2P_CONTROLLER_RECOVERY_S="-3")
    assert failed(done, 2, "controller.recovery_s", "-3")


@pytest.mark.parametrize(
    "words",
    [
        ["locate", "--namespace", "n"],
        ["locate", "--namespace", "n", "xyz"],
        ["locate", "--namespace", "n", "00" * 7],
        ["locate", "--namespace", "n", "--keys-file", "/no/such/file"],
        ["locate", "--namespace", "n", "--tokens-file", "/dev/null"],
        ["status", "--controller", "nowhere"],
        ["keys", "init", "/dev/null/x"],
    ],
)
def test_nonsense_is_2_with_one_line(words):
    assert failed(run_cli(*words), 2)


@pytest.mark.parametrize("words", [[], ["dance"], ["locate"], ["status", "--timeout", "-1"]])
def test_usage_is_2(words):
    done = run_cli(*words)
    assert (done.returncode, done.stderr.startswith("usage: ")) == (2, True)


@pytest.mark.parametrize("command", ["serve", "status", "locate", "clear", "keys", None])
def test_help_teaches(command):
    done = run_cli(*([command] if command else []), "--help")
    assert done.returncode == 0
    assert "exit codes:" in done.stdout


def test_a_table_needs_no_rich():
    code = (
        "import sys; sys.modules['rich.console'] = None; sys.stdout.isatty = lambda: True;"
        "from p2p_controller.cli.output import Table, write_table;"
        "write_table(Table(('a', 'b'), [('x', 10), ('yy', 9)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "a    b\nx   10\nyy   9\n"


def test_a_terminal_gets_a_drawn_table(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    output.write_table(output.Table(("name", "count"), [("[p]", 10)], "tcp://x"))
    drawn = capsys.readouterr().out
    assert "[p]" in drawn
    assert "tcp://x" in drawn
    assert "┃" in drawn or "|" in drawn


def test_keys_are_made_once_and_the_next_steps_are_told(tmp_path):
    folder = str(tmp_path / "keys")
    done = run_cli("keys", "init", folder, "--name", "p")
    assert done.returncode == 0
    assert done.stdout.count("made /") == 3
    assert f"serve --keys-dir {folder}" in done.stdout
    again = json.loads(run_cli("keys", "init", folder, "--name", "p", "--json").stdout)
    assert (again["names"], again["written"]) == (["controller", "admin", "p"], [])


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A controller with keys, and the folder of those keys."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, ["controller", "admin", "p"])
    with ControllerProcess("--keys-dir", str(folder)) as process:
        yield process, folder
        status, log = process.end()
        assert status == 0
        assert "Traceback" not in log


def test_who_has_an_authorized_key_is_answered(guarded):
    process, folder = guarded
    done = process.cli("status", "--keys-dir", str(folder))
    assert done.returncode == 0, done.stderr
    with ControllerClient(process.address, keys=load_keys(str(folder), "p")) as client:
        join(client, Instance("p"))


def test_who_has_no_key_gets_no_answer(guarded):
    process, _ = guarded
    client = ControllerClient(process.address, timeout_s=0.5)
    with client, pytest.raises(PeerUnreachableError):
        client.status()
    assert process.cli("status", "--timeout", "0.3").returncode == 3


def test_who_has_a_key_that_is_not_authorized_gets_no_answer(guarded, tmp_path):
    process, folder = guarded
    make_keys(tmp_path, ["controller", "stranger"])
    controllers = (folder / "authorized" / "controller.key").read_text()
    (tmp_path / "authorized" / "controller.key").write_text(controllers)
    keys_of_stranger = load_keys(str(tmp_path), "stranger")
    stranger = ControllerClient(process.address, keys=keys_of_stranger, timeout_s=0.5)
    with stranger, pytest.raises(PeerUnreachableError):
        stranger.status()
    with ControllerClient(process.address, keys=load_keys(str(folder), "admin")) as client:
        assert client.status().counters["dropped_handshake"] >= 1


def test_a_refusal_is_an_error_of_the_client(controller):
    client = ControllerClient(controller.address)
    with client, pytest.raises(RequestRefusedError, match="unknown_instance"):
        client.clear(instance="nobody")


def test_a_paused_controller_forgets_nobody():
    words = ("--set", "heartbeat_s=0.2", "--set", "silent_after_s=0.5", "--set", "forget_after_s=1")
    with (
        ControllerProcess(*words) as process,
        ControllerClient(process.address, timeout_s=10.0) as client,
    ):
        p = Instance("p")
        join(client, p)
        client.ask(p.admit(1), FeedStatus)
        process.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(2.5)  # longer than forget_after_s, and than any hiccup
        process.process.send_signal(signal.SIGCONT)
        assert client.ask(p.heartbeat(), FeedStatus).want is Want.NOTHING
        assert client.locate(NAMESPACE.id, keys(1)).runs[0].count == 1
