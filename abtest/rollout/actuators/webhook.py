"""Tell a webhook of a halt: one signed POST, as Standard Webhooks 1.0.0 asks for.

The receiver gets `webhook-id` (the same at every attempt, so that it can drop what it has), `webhook-timestamp` (of the
attempt) and `webhook-signature: v1,<base64 of HMAC-SHA256(secret, id.timestamp.body)>`. See
https://github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.

This file sends; what has to be kept and sent again is the business of `abtest.rollout.outbox`.
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from abtest.errors import ActuatorError
from abtest.results import Action
from abtest.rollout.actuators.base import ActuatorOutcome, HaltRequest, register
from abtest.spec import canonical_json, is_loopback, safe_url

HALTED = "abtest.experiment.halted"
NOT_EFFECTIVE = "abtest.experiment.halt_not_effective"
TIMEOUT_SECONDS = 5.0
_SECRET_BYTES = (24, 64)  # what Standard Webhooks asks for
_PREFIX = "whsec_"
_GONE = 410
_RETRY_AFTER = (429, 503)


@dataclass(frozen=True)
class Message:
    """What is sent; the same at every attempt.

    Attributes:
        id: The `webhook-id`; without a full stop, which separates the signed parts.
        body: JSON text; signed and sent as it is.
    """

    id: str
    body: str


@dataclass(frozen=True)
class Answer:
    """What became of one attempt.

    Attributes:
        outcome: accepted (2xx), gone (410: never again), or failed (everything else, silence too).
        detail: A few words for people.
        retry_after: Seconds that the receiver asks to wait (429 and 503 only).
    """

    outcome: Literal["accepted", "gone", "failed"]
    detail: str
    retry_after: float | None = None


@register
@dataclass(frozen=True)
class WebhookEndpoint:
    """An address that is told of a halt. It tells and switches nothing.

    Attributes:
        url: https, or http to this machine.
        secret_env: Name of the environment variable with the secret: `whsec_<base64>`, or any other text as it is.
    """

    name: ClassVar[str] = "webhook"

    url: str
    secret_env: str

    def __post_init__(self) -> None:
        """Refuse an address that nothing must be sent to.

        Raises:
            ActuatorError: Not https (or http to this machine), or a user and password in it.
        """
        try:
            safe_url(self.url)
        except ValueError as error:
            raise ActuatorError(str(error), key="url") from None

    @property
    def where(self) -> str:
        """Return scheme and host, for people; the path may be a secret in itself."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    def check(self, arms: Sequence[str] = ()) -> tuple[str, ...]:  # noqa: ARG002 - a webhook knows no arms
        """Look whether a message could be signed, without sending one; return what is worth a warning.

        Args:
            arms: Not used: a message is about the whole experiment.

        Raises:
            ActuatorError: The secret is not set or cannot be read.
        """
        length, (least, most) = len(self.secret()), _SECRET_BYTES
        if least <= length <= most:
            return ()
        return (f"the secret in {self.secret_env} has {length} bytes; Standard Webhooks asks for {least} to {most}",)

    def halt(self, request: HaltRequest, *, dry_run: bool = False) -> ActuatorOutcome:
        """Send one message about a halt, made of the request alone, once.

        `abtest decide` does not come this way: its outbox sends the whole decision and tries again. Nothing is
        remembered here; asked again, the same message goes out with the same id, by which the receiver knows it.

        Raises:
            ActuatorError: The secret is missing, or the receiver did not accept the message.
        """
        if dry_run:
            return ActuatorOutcome(Action(self.name, "dry_run", self.would_tell()))
        message = Message(message_id(request.decision_id), event_body(request.to_dict()))
        answer = self.send(message)
        if answer.outcome != "accepted":
            raise ActuatorError(f"{self.where}: {answer.detail}", key="url", hint="the receiver was not told")
        return ActuatorOutcome(Action(self.name, "done", f"{self.where}: {answer.detail}"))

    def would_tell(self) -> str:
        """Return the sentence of a dry run; it names what would keep the message back."""
        try:
            notes = self.check()
        except ActuatorError as error:
            notes = (str(error),)
        return "; ".join([f"would tell {self.where}", *notes])

    def secret(self) -> bytes:
        """Return the key of the signature.

        Raises:
            ActuatorError: The variable is not set, empty, or not base64 after `whsec_`.
        """
        text = os.environ.get(self.secret_env, "").strip()
        if not text:
            raise ActuatorError(
                f"the environment variable {self.secret_env} is not set", hint="export it where abtest runs"
            )
        if not text.startswith(_PREFIX):
            return os.fsencode(text)
        encoded = text.removeprefix(_PREFIX).rstrip("=")
        try:
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        except ValueError:
            key = b""
        if not key:
            raise ActuatorError(
                f"the secret in {self.secret_env} is not base64 after {_PREFIX}", hint="copy it again, whole"
            )
        return key

    def send(self, message: Message, *, timeout: float = TIMEOUT_SECONDS) -> Answer:
        """Send a message once and wait `timeout` seconds at most for the answer, name lookup included.

        After that the attempt is given up on; should it still arrive, the receiver knows it by its id.

        Raises:
            ActuatorError: The secret is missing or cannot be read; nothing was sent.
        """
        moment = int(time.time())
        headers = {
            "content-type": "application/json", "user-agent": "abtest", "webhook-id": message.id,
            "webhook-timestamp": str(moment), "webhook-signature": sign(self.secret(), message, moment),
        }  # fmt: skip
        request = urllib.request.Request(self.url, message.body.encode(), headers, method="POST")  # noqa: S310 - safe_url
        answers: list[Answer] = []
        # A thread, because the time limits of sockets count each step anew and do not cover the name lookup at all.
        worker = threading.Thread(target=lambda: answers.append(self._post(request, timeout)), daemon=True)
        worker.start()
        worker.join(timeout)
        return answers[0] if answers else Answer("failed", f"no answer within {timeout:.3g} s")

    def _post(self, request: urllib.request.Request, timeout: float) -> Answer:
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if is_loopback(urlsplit(self.url).hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as response:
                return Answer("accepted", f"accepted ({response.status})")
        except urllib.error.HTTPError as error:
            with error:
                return _refusal(error)
        except urllib.error.URLError as error:
            return _unreachable(error.reason, timeout)
        except Exception as error:  # whatever it was, the message was not accepted and waits for the next attempt
            return _unreachable(error, timeout)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a redirect must not lead a message away from the address that was checked."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Return no new request, so that the redirect is an answer like any other."""


def message_id(decision_id: str, time_of_halting: int = 1) -> str:
    """Return the `webhook-id`: from the decision id, and a number where one decision halted again after an override."""
    again = f"_{time_of_halting}" if time_of_halting > 1 else ""
    return f"msg_{decision_id[:40].replace('.', '-')}{again}"


def event_body(data: dict[str, Any], kind: str = HALTED) -> str:
    """Return the JSON text of an event; the same data gives the same text but for its moment."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return canonical_json({"type": kind, "timestamp": at, "data": data})


def sign(secret: bytes, message: Message, moment: int) -> str:
    """Return the signature of a message that is sent at `moment` (seconds since 1970)."""
    signed = f"{message.id}.{moment}.{message.body}".encode()
    return f"v1,{base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()}"


def _refusal(error: urllib.error.HTTPError) -> Answer:
    code = error.code
    named = f"answered {code} {HTTPStatus(code).phrase}" if code in set(HTTPStatus) else f"answered {code}"
    if code == _GONE:
        return Answer("gone", named)
    if 300 <= code < 400:
        return Answer("failed", f"{named}; redirects are not followed, give the final address")
    return Answer("failed", named, _seconds(error.headers.get("retry-after")) if code in _RETRY_AFTER else None)


def _unreachable(reason: object, timeout: float) -> Answer:
    if isinstance(reason, TimeoutError):
        return Answer("failed", f"no answer within {timeout:.3g} s")
    words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return Answer("failed", " ".join(str(words).split())[:200])


def _seconds(header: str | None) -> float | None:
    """Read Retry-After: seconds or an HTTP date; None for anything else."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time())
