"""One signed POST: what is sent, what each answer means, which addresses and secrets are refused."""

from __future__ import annotations

import base64
import email.utils
import json
import socket
import threading
import time

import pytest

from abtest.errors import ActuatorError, SpecError
from abtest.rollout.actuators import actuator_type, webhook
from abtest.rollout.actuators.base import Actuator, HaltRequest, TrafficActuator
from abtest.rollout.actuators.webhook import Message, WebhookEndpoint, message_id, sign
from abtest.spec import Experiment
from tests.rollout.webhook_receiver import SECRET, SECRET_BYTES, SECRET_ENV, running
from tests.test_spec import BASE

HALT = HaltRequest("swap", 1, "d" * 64, "policy-1", "baseline", ("candidate",))
MESSAGE = Message("msg_1", '{"type":"abtest.experiment.halted","data":{"name":"Zoë"}}')


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    monkeypatch.setenv(SECRET_ENV, SECRET)


def endpoint(receiver) -> WebhookEndpoint:
    return WebhookEndpoint(receiver.url, SECRET_ENV)


def spec(webhook_table) -> Experiment:
    return Experiment.from_dict({**BASE, "halt": {"webhook": webhook_table}})


# --- what is sent --------------------------------------------------------------------------------------------------


def test_the_signature_is_the_one_of_the_specification():
    # The example of the reference library's tests (github.com/standard-webhooks, libraries/javascript/src/webhook.test.ts).
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", '{"test": 2432232314}')
    assert sign(key, message, 1614265330) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_message_arrives_signed():
    with running(204) as receiver:
        answer = endpoint(receiver).send(MESSAGE)
    assert (answer.outcome, answer.detail) == ("accepted", "accepted (204)")
    (got,) = receiver.got
    assert (got.path, got.id, got.body) == ("/hook/secret-path", "msg_1", MESSAGE.body.encode())
    assert got.headers["content-type"] == "application/json"
    assert got.is_signed_by(SECRET_BYTES)
    assert not got.is_signed_by(SECRET.encode())


def test_the_reference_library_accepts_it(monkeypatch):
    reference = pytest.importorskip("standardwebhooks", reason="standardwebhooks is not installed")
    with running() as receiver:
        endpoint(receiver).send(MESSAGE)
        monkeypatch.setenv(SECRET_ENV, "just some text, as long as it should be")
        endpoint(receiver).send(MESSAGE)
    encoded, text = receiver.got
    assert reference.Webhook(SECRET).verify(encoded.body, encoded.headers) == json.loads(MESSAGE.body)
    raw = reference.Webhook(b"just some text, as long as it should be")
    assert raw.verify(text.body, text.headers) == json.loads(MESSAGE.body)
    with pytest.raises(reference.WebhookVerificationError):
        raw.verify(encoded.body, encoded.headers)
    with pytest.raises(reference.WebhookVerificationError):
        raw.verify(text.body + b" ", text.headers)


# --- what each answer means ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "outcome", "detail", "wait"),
    [
        (200, "accepted", "accepted (200)", None),
        (202, "accepted", "accepted (202)", None),
        (410, "gone", "answered 410 Gone", None),
        (404, "failed", "answered 404 Not Found", None),
        (500, "failed", "answered 500 Internal Server Error", None),
        (599, "failed", "answered 599", None),
        ((429, {"retry-after": "120"}), "failed", "answered 429 Too Many Requests", 120),
        ((503, {"retry-after": "7"}), "failed", "answered 503 Service Unavailable", 7),
        ((503, {"retry-after": "soon"}), "failed", "answered 503 Service Unavailable", None),
        ((503, {}), "failed", "answered 503 Service Unavailable", None),
        ((500, {"retry-after": "7"}), "failed", "answered 500 Internal Server Error", None),
    ],
)
def test_answers(answer, outcome, detail, wait):
    with running(answer) as receiver:
        said = endpoint(receiver).send(MESSAGE)
    assert (said.outcome, said.detail, said.retry_after) == (outcome, detail, wait)


def test_retry_after_may_be_a_date():
    with running((503, {"retry-after": email.utils.formatdate(time.time() + 90, usegmt=True)})) as receiver:
        assert 80 < endpoint(receiver).send(MESSAGE).retry_after <= 91
    with running((503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"})) as receiver:
        assert endpoint(receiver).send(MESSAGE).retry_after == 0


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(status):
    with running() as other, running((status, {"location": other.url})) as receiver:
        said = endpoint(receiver).send(MESSAGE)
    assert said.outcome == "failed"
    assert "redirects are not followed" in said.detail
    assert len(receiver.got) == 1
    assert other.got == []


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_the_time_limit_is_for_the_whole_attempt(how):
    with running(how) as receiver:
        started = time.monotonic()
        said = endpoint(receiver).send(MESSAGE, timeout=0.4)
        assert time.monotonic() - started < 1
    assert (said.outcome, said.detail) == ("failed", "no answer within 0.4 s")


def test_a_slow_name_lookup_is_inside_the_time_limit(monkeypatch):
    def look_up(*_, **__):
        time.sleep(1.2)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(webhook.urllib.request, "getproxies", dict)
    started = time.monotonic()
    said = WebhookEndpoint("https://hooks.example.com/x", SECRET_ENV).send(MESSAGE, timeout=0.3)
    assert time.monotonic() - started < 1
    assert said.detail == "no answer within 0.3 s"
    time.sleep(1.0)  # the attempt that was given up on ends before the name lookup is mended


def test_nobody_listens():
    with running() as receiver:
        pass
    said = endpoint(receiver).send(MESSAGE)
    assert (said.outcome, said.detail) == ("failed", "Connection refused")


def test_an_answer_that_is_no_http():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk():
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"220 smtp.example.com ESMTP\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        said = WebhookEndpoint(f"http://127.0.0.1:{server.getsockname()[1]}/", SECRET_ENV).send(MESSAGE)
        thread.join()
    assert said.outcome == "failed"
    assert "smtp.example.com" in said.detail


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with running() as receiver:
        assert endpoint(receiver).send(MESSAGE).outcome == "accepted"


# --- the secret ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "ABTEST_TEST_SECRET is not set"), ("", "is not set"), ("  \n", "is not set"),
        ("whsec_", "not base64"), ("whsec_h\u00e9", "not base64"), ("whsec_c2VjcmV0c2VjcmV0*", "not base64"), ("whsec_=", "not base64"),
    ],
)  # fmt: skip
def test_a_secret_that_cannot_be_used(monkeypatch, value, message):
    if value is None:
        monkeypatch.delenv(SECRET_ENV)
    else:
        monkeypatch.setenv(SECRET_ENV, value)
    with running() as receiver:
        for act in (lambda: endpoint(receiver).send(MESSAGE), lambda: endpoint(receiver).check()):
            with pytest.raises(ActuatorError, match=message) as caught:
                act()
            assert caught.value.hint
            assert len(value or "") < 8 or value not in str(caught.value)
    assert receiver.got == []


def test_secrets_without_padding_and_with_a_newline(monkeypatch):
    monkeypatch.setenv(SECRET_ENV, SECRET.rstrip("=") + "\n")
    assert WebhookEndpoint("https://a.example", SECRET_ENV).secret() == SECRET_BYTES
    monkeypatch.setenv(SECRET_ENV, "plain text\n")
    assert WebhookEndpoint("https://a.example", SECRET_ENV).secret() == b"plain text"


def test_check_warns_of_a_short_secret(monkeypatch):
    target = WebhookEndpoint("https://a.example", SECRET_ENV)
    assert target.check(["baseline", "candidate"]) == ()
    monkeypatch.setenv(SECRET_ENV, "hunter2")
    assert target.check() == ("the secret in ABTEST_TEST_SECRET has 7 bytes; Standard Webhooks asks for 24 to 64",)


# --- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/abtest", "https://hooks.example.com:8443/a?b=c", "https://10.0.0.7/x", "HTTPS://a.example",
        "http://127.0.0.1:8080/x", "http://127.9.9.9/x", "http://[::1]:8080/x", "http://localhost/x",
    ],
)  # fmt: skip
def test_addresses_that_are_accepted(url):
    assert spec({"url": url, "secret_env": "S"}).halt.webhook.url == url
    assert WebhookEndpoint(url, "S").url == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://hooks.example.com/abtest", "https://"), ("http://localhost.example.com/", "https://"),
        ("http://127.0.0.1.example.com/", "https://"), ("http://10.0.0.7/", "https://"), ("ftp://127.0.0.1/", "https://"),
        ("file:///etc/passwd", "not an address"), ("hooks.example.com/abtest", "not an address"), ("", "not an address"),
        ("https://", "not an address"), ("https://user:pw@hooks.example.com", "no user or password"),
        ("http://localhost@hooks.example.com/", "no user or password"), ("https://a.example/x y", "spaces"),
        ("https://a.example/\nx", "spaces"), ("https://b\u00fccher.example", "punycode"), ("https://a.example:99999/", "[Pp]ort"),
        ("https://a.example:0/", "not an address"), ("https://[::1", "Invalid IPv6"),
    ],
)  # fmt: skip
def test_addresses_that_are_refused(url, message):
    with pytest.raises(SpecError, match=message) as caught:
        spec({"url": url, "secret_env": "S"})
    assert caught.value.key == "halt.webhook.url"
    with pytest.raises(ActuatorError, match=message):
        WebhookEndpoint(url, "S")


@pytest.mark.parametrize("name", ["", "A B", "A-B", "1A", "whsec_c2VjcmV0c2VjcmV0c2VjcmV0", "tops3cret!"])
def test_a_secret_in_the_spec_is_refused_and_not_repeated(name):
    with pytest.raises(SpecError, match="not the name of an environment variable") as caught:
        spec({"url": "https://a.example", "secret_env": name})
    assert caught.value.key == "halt.webhook.secret_env"
    assert not name or name not in str(caught.value)


def test_the_spec_names_a_wrong_or_missing_key():
    with pytest.raises(SpecError, match="this key is missing") as caught:
        spec({"url": "https://a.example"})
    assert caught.value.key == "halt.webhook.secret_env"
    with pytest.raises(SpecError, match="secret_env") as caught:
        spec({"url": "https://a.example", "secret_enf": "S"})
    assert "unknown key" in caught.value.message


def test_the_address_is_no_part_of_the_policy():
    one, two = (spec({"url": f"https://{n}.example", "secret_env": "S"}) for n in "ab")
    assert one.policy_sha256() == two.policy_sha256() == Experiment.from_dict(BASE).policy_sha256()


# --- the actuator by itself ----------------------------------------------------------------------------------------


def test_it_is_an_actuator_that_only_tells():
    made = actuator_type("webhook")(url="https://a.example/T0/secret-path", secret_env=SECRET_ENV)
    assert isinstance(made, Actuator)
    assert not isinstance(made, TrafficActuator)
    assert made.where == "https://a.example"


def test_halt_tells_once_and_says_what_failed():
    with running(200, 500) as receiver:
        target = endpoint(receiver)
        dry = target.halt(HALT, dry_run=True)
        assert receiver.got == []
        assert target.halt(HALT).action.status == "done"
        with pytest.raises(ActuatorError, match="answered 500"):
            target.halt(HALT)
    assert (dry.action.status, dry.action.detail) == ("dry_run", f"would tell http://127.0.0.1:{receiver.port}")
    first, second = receiver.got
    assert first.id == second.id == "msg_" + "d" * 40
    event = json.loads(first.body)
    assert event["type"] == "abtest.experiment.halted"
    assert event["timestamp"].endswith("Z")
    assert event["data"] == HALT.to_dict() | {"treatments": ["candidate"]}
    assert first.is_signed_by(SECRET_BYTES)


def test_a_dry_run_names_what_would_keep_the_message_back(monkeypatch):
    monkeypatch.delenv(SECRET_ENV)
    action = WebhookEndpoint("https://a.example", SECRET_ENV).halt(HALT, dry_run=True).action
    assert action.status == "dry_run"
    assert action.detail.startswith(
        "would tell https://a.example; the environment variable ABTEST_TEST_SECRET is not set"
    )


def test_ids_hold_no_full_stop_and_tell_halts_apart():
    assert message_id("a.b") == "msg_a-b"
    assert len({message_id("d" * 64, n) for n in (1, 2, 3)}) == 3
