"""Moments: epoch microseconds inside, RFC 3339 outside."""

from __future__ import annotations

from datetime import UTC, datetime

from abtest.errors import UsageError


def to_us(moment: datetime) -> int:
    """Return microseconds since 1970."""
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def to_text(us: int | None) -> str | None:
    """Return RFC 3339 in UTC, to the second when it is a whole one; None stays None."""
    if us is None:
        return None
    moment = datetime.fromtimestamp(us // 1_000_000, tz=UTC).replace(microsecond=us % 1_000_000)
    return moment.isoformat().replace("+00:00", "Z")


def parse_moment(text: str, *, key: str = "--as-of") -> int:
    """Read an RFC 3339 moment (or a date, meaning its end in UTC) as microseconds; raises UsageError."""
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise UsageError(f"{text!r} is no moment", key=key, hint="write 2026-11-20T12:00:00Z") from None
    if len(text.strip()) == len("2026-11-20"):
        return to_us(moment.replace(tzinfo=UTC)) + 86_400_000_000 - 1
    if moment.tzinfo is None:
        raise UsageError(f"{text!r} has no time zone", key=key, hint=f"write {text.strip()}Z")
    return to_us(moment)
