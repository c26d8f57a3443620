"""HTTP beside a real controller: every operation, every refusal, the probes, the metrics."""

import json
import threading
from http import HTTPStatus

import pytest
from prometheus_client.parser import text_string_to_metric_families

from p2p.keys import chunk_keys
from p2p.wire.curve import load_keys, make_keys
from p2p.wire.messages import FeedStatus, OrderResult, Registered
from p2p_controller.client import ControllerClient
from p2p_controller.http.operations import OPERATIONS, Verb
from tests.e2e.controller_process import ControllerProcess, run_cli, until
from tests.e2e.http_client import JSON, HttpClient
from tests.unit.controller.instances import NAMESPACE, Instance, key
from tests.unit.http.test_exposition import dashboard, names_in

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ANY_PORT = ("--http", "127.0.0.1:*")
LASTING = ("--set", "silent_after_s=3600", "--set", "forget_after_s=3600")
TOKEN = "w" * 20
TEXT = {"Content-Type": "text/plain"}
EVIL_HOST = {"Host": "evil.example"}
EVIL_PAGE = {"Origin": "http://evil.example"}
BODY_BY_NAME = {
    "locate": {"namespace": NAMESPACE.id, "keys": ["00" * 32]},
    "clear": {"timeout_ms": 50},
    "explain": {"namespace": NAMESPACE.id, "keys": ["00" * 32]},
    "pin": {"namespace": NAMESPACE.id, "keys": ["00" * 32], "timeout_ms": 50},
    "unpin": {"namespace": NAMESPACE.id, "keys": ["00" * 32], "timeout_ms": 50},
    "evict": {"namespace": NAMESPACE.id, "keys": ["00" * 32], "timeout_ms": 50},
    "replicate": {"namespace": NAMESPACE.id, "keys": ["00" * 32], "target": "p", "timeout_ms": 50},
    "move": {"namespace": NAMESPACE.id, "keys": ["00" * 32], "target": "p", "timeout_ms": 50},
    "drain": {"instance": "p", "timeout_ms": 50},
}


@pytest.fixture(scope="module")
def controller():
    with ControllerProcess(*ANY_PORT, *LASTING, "--set", "recovery_s=0") as process:
        with ControllerClient(process.address) as client:
            p, q = Instance("p"), Instance("q")
            for instance, numbers in ((p, range(8)), (q, range(4, 10))):
                join(client, instance)
                client.ask(instance.admit(*numbers), FeedStatus)
        yield process
        status, log = process.end()
        assert status == 0
        assert "Traceback" not in log


@pytest.fixture
def http(controller):
    return HttpClient(controller.http)


def join(client: ControllerClient, instance: Instance) -> None:
    instance.epoch = client.ask(instance.register(), Registered).epoch


def test_views_are_those_of_the_command_line(controller, http):
    assert http.get("/v1/instances").json["instances"][1]["instance"] == "q"
    status = http.get("/v1/status").json
    shown = json.loads(controller.cli("status", "--json").stdout)
    for name in ("epoch", "num_instances", "num_keys", "num_entries", "partial"):
        assert status[name] == shown[name]
    assert (status["num_instances"], status["num_entries"]) == (2, 14)


def test_locate_takes_keys_and_tokens(controller, http):
    words = [key(number).hex() for number in range(10)]
    found = http.post("/v1/locate", {"namespace": NAMESPACE.id, "keys": [*words, "ff" * 32]})
    assert found.status == HTTPStatus.OK
    report = found.json
    assert (report["num_keys"], report["num_held"]) == (11, 10)
    command = ("locate", "--namespace", NAMESPACE.id, "--json", *words, "ff" * 32)
    shown = json.loads(controller.cli(*command).stdout)
    assert shown["located"]["runs"] == report["located"]["runs"]
    body = {"namespace": NAMESPACE.id, "tokens": list(range(130)), "chunk_tokens": 64, "seed": "s"}
    made = len(chunk_keys(range(130), 64, seed="s"))
    assert http.post("/v1/locate", body).json["num_keys"] == made == 2


def test_refusals_keep_code_field_and_values(http):
    unknown = http.post("/v1/clear", {"instance": "nobody"})
    assert unknown.status == HTTPStatus.NOT_FOUND
    assert unknown.error == {
        "code": "unknown_instance",
        "message": "refused, unknown_instance: instance = 'nobody'",
        "field": "instance",
        "ours": "",
        "theirs": "nobody",
    }
    assert http.post("/v1/clear", {"namespace": "no"}).error["code"] == "namespace"


@pytest.mark.parametrize(
    ("sent", "status", "code", "field"),
    [
        (("GET", "/v1/nothing", None), 404, "not_found", ""),
        (("GET", "/v1/status/", None), 404, "not_found", ""),
        (("POST", "/v1/status", b"", JSON), 405, "method_not_allowed", ""),
        (("GET", "/v1/clear", None), 405, "method_not_allowed", ""),
        (("GET", "/v1/status?x=1", None), 422, "bad_value", "x"),
        (("POST", "/v1/locate", b"{", JSON), 400, "bad_json", ""),
        (("POST", "/v1/locate", b"{}", JSON), 422, "bad_value", "namespace"),
        (("POST", "/v1/clear", b'{"instanse": "p"}', JSON), 422, "bad_value", "instanse"),
        (("POST", "/v1/clear", b"{}", TEXT), 415, "not_json", "Content-Type"),
        (("POST", "/v1/locate", b" " * (3 << 20), JSON), 413, "too_large", ""),
        (("GET", "/v1/status", None, EVIL_HOST), 403, "forbidden", "Host"),
        (("GET", "/metrics", None, EVIL_HOST), 403, "forbidden", "Host"),
        (("POST", "/v1/clear", b"", EVIL_PAGE), 403, "forbidden", "Origin"),
    ],
)
def test_what_is_wrong_is_said_in_one_shape(http, sent, status, code, field):
    reply = http.send(*sent)
    assert reply.status == status
    assert set(reply.error) == {"code", "message", "field", "ours", "theirs"}
    assert (reply.error["code"], reply.error["field"]) == (code, field)
    assert reply.error["message"]
    assert reply.headers["content-type"] == "application/json"


def test_clear_waits_for_reports():
    with ControllerProcess(*ANY_PORT) as process, ControllerClient(process.address) as client:
        http = HttpClient(process.http)
        p = Instance("p")
        join(client, p)
        assert http.post("/v1/clear", {"timeout_ms": 100}).json["reports"][0]["instance"] == "p"
        replies = []
        asking = threading.Thread(target=lambda: replies.append(http.post("/v1/clear")))
        asking.start()
        while asking.is_alive():
            for order in client.ask(p.heartbeat(), FeedStatus).orders or ():
                done = OrderResult(id=order.id, num_chunks=5)
                client.ask(p.heartbeat(orders_done=(done,)), FeedStatus)
        asking.join()
        (report,) = replies[0].json["reports"]
        assert (report["instance"], report["num_chunks"]) == ("p", 5)


def test_shutdown_is_answered_and_ends_the_process():
    with ControllerProcess(*ANY_PORT) as process:
        assert HttpClient(process.http).post("/v1/shutdown").status == HTTPStatus.OK
        status, log = process.wait()
        assert status == 0
        assert "Traceback" not in log


def test_leases_name_who_does_not_answer(http):
    refused = http.get("/v1/leases?instance=nobody")
    assert refused.status == HTTPStatus.NOT_FOUND
    assert refused.json["error"]["code"] == "unknown_instance"
    assert http.get("/v1/leases").json["silent"] == ["p", "q"]


def test_a_controller_is_ready_once_its_answers_are_whole(http):
    assert http.get("/healthz").status == HTTPStatus.OK
    assert http.get("/readyz").json == {"ready": True, "reason": ""}
    with ControllerProcess(*ANY_PORT, "--set", "recovery_s=0.5") as process:
        starting = HttpClient(process.http)
        early = starting.get("/readyz")
        assert early.status == HTTPStatus.SERVICE_UNAVAILABLE
        assert early.json["reason"].startswith("partial")
        assert until(lambda: starting.get("/readyz").status == HTTPStatus.OK)


def test_every_route_answers_as_it_is_described():
    jsonschema = pytest.importorskip("jsonschema", reason="in the extra dev")
    with ControllerProcess(*ANY_PORT, "--set", "recovery_s=0") as process:
        with ControllerClient(process.address) as client:
            p = Instance("p")
            join(client, p)
            client.ask(p.admit(0), FeedStatus)
        http = HttpClient(process.http)
        document = http.get("/openapi.json").json
        components = document["components"]
        rows = sorted(OPERATIONS, key=lambda row: row.name == "shutdown")  # the end comes last
        assert {row.path for row in rows} <= set(document["paths"])
        for row in rows:
            described = document["paths"][row.path][row.verb.value.lower()]["responses"]
            body = BODY_BY_NAME.get(row.name, {})
            replies = [http.post(row.path, {"?": 1}), http.get(f"{row.path}?%3F=1")]
            is_get = row.verb is Verb.GET
            replies.append(http.get(row.path) if is_get else http.post(row.path, body))
            assert replies[-1].status == HTTPStatus.OK, row.name
            for reply in replies:
                if reply.status == HTTPStatus.METHOD_NOT_ALLOWED:
                    continue
                response = described[str(reply.status)]
                if "$ref" in response:
                    response = components["responses"][response["$ref"].rpartition("/")[2]]
                schema = response["content"]["application/json"]["schema"]
                jsonschema.validate(reply.json, {**schema, "components": components})


def metrics_of(http: HttpClient) -> dict[tuple[str, str], float]:
    """Returns sums by metric and by the label that tells kinds apart."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(http.get("/metrics").content.decode()):
        for sample in family.samples:
            for word in ("", *sample.labels.values()):
                found[sample.name, word] = found.get((sample.name, word), 0) + sample.value
    return found


def test_metrics_say_what_the_status_says(controller, http):
    with ControllerClient(controller.address) as client:
        client.locate(NAMESPACE.id, [key(0)])
        status = client.status()
    before = metrics_of(http)
    assert before["p2p_controller_up", ""] == 1
    assert before["p2p_controller_instances", "alive"] == status.num_instances
    assert before["p2p_controller_namespace_entries", NAMESPACE.id] == status.num_entries
    assert before["p2p_controller_requests_total", "Locate"] >= 1
    http.post("/v1/locate", {"namespace": "n", "keys": ["00" * 8]})
    after = metrics_of(http)
    name = "p2p_controller_requests_total"
    assert after[name, "Locate"] == before[name, "Locate"] + 1
    assert after["p2p_controller_http_requests_total", "locate"] >= 1


def test_the_dashboard_asks_only_for_what_a_controller_exports(http):
    http.get("/v1/status")
    text = http.get("/metrics").content.decode()
    exported = set()
    for family in text_string_to_metric_families(text):
        suffix = "_total" if family.type == "counter" else ""
        exported |= {family.name + suffix, *(sample.name for sample in family.samples)}
    printed = json.loads(run_cli("dashboard").stdout)
    assert printed == dashboard()
    for panel in printed["panels"]:
        for target in panel.get("targets", []):
            assert names_in(target["expr"]) <= exported, target["expr"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A controller for other hosts, with keys and a token."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, ["controller", "admin", "p"])
    file = folder / "token"
    file.write_text(TOKEN)
    words = ("--keys-dir", str(folder), "--set", f"http_token_file={file}")
    with ControllerProcess("--http", "0.0.0.0:*", *words) as process:
        yield process, folder
        assert process.end()[0] == 0


def test_with_keys_and_a_token_only_the_token_opens(guarded):
    process, folder = guarded
    stranger, friend = HttpClient(process.http), HttpClient(process.http, bearer(TOKEN))
    for path in ("/v1/status", "/v1/instances"):
        refused = stranger.get(path)
        assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert friend.get(path).status == HTTPStatus.OK
    assert stranger.post("/v1/clear").status == HTTPStatus.UNAUTHORIZED
    assert HttpClient(process.http, bearer("wrong")).post("/v1/clear").error["field"]
    assert friend.post("/v1/clear").json.get("reports", []) == []
    assert stranger.get("/healthz").status == HTTPStatus.OK
    assert stranger.get("/metrics", Host="any.example").status == HTTPStatus.OK
    with ControllerClient(process.address, keys=load_keys(str(folder), "p")) as client:
        join(client, Instance("p"))
    assert friend.get("/v1/leases").json["silent"] == ["p"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_a_token_other_hosts_may_only_look():
    with ControllerProcess("--http", "0.0.0.0:*") as process:
        http = HttpClient(process.http)
        assert http.get("/v1/status").status == HTTPStatus.OK
        for path in ("/v1/clear", "/v1/shutdown"):
            reply = http.post(path)
            assert (reply.status, reply.error["field"]) == (403, "http_token_file")


def test_a_bad_http_address_or_token_file_is_2_and_named(controller):
    taken = controller.http.removeprefix("http://")
    for words, part in (
        (("--http", taken), taken),
        (("--http", "nonsense"), "'nonsense'"),
        (("--http", "127.0.0.1:*", "--set", "http_token_file=/no/such"), "/no/such"),
    ):
        done = run_cli("serve", "--bind", "tcp://127.0.0.1:*", *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert part in done.stderr
