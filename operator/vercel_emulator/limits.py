"""Rate limits."""

import math

from pydantic import JsonValue

from vercel_emulator.clock import Clock
from vercel_emulator.errors import ApiError
from vercel_emulator.models import Call, RateLimit


class _Counter:
    """Counts the requests under one rule, in windows that start with a first request."""

    def __init__(self, rule: RateLimit) -> None:
        self.rule = rule
        self._length = max(round(rule.window * 1000), 1)
        self._windows: dict[tuple[str, Call | None], tuple[int, int]] = {}

    def count(self, token: str, call: Call, now: int) -> tuple[int, int]:
        """Count a request. Returns how many more are allowed (negative: exceeded) and when the window ends, in ms."""
        key = (token, call if self.rule.per_call else None)
        start, used = self._windows.get(key, (now, 0))
        if not start <= now < start + self._length:
            start, used = now, 0
        self._windows[key] = (start, used + 1)
        return self.rule.limit - used - 1, start + self._length

    def concerns(self, token: str, call: Call) -> bool:
        return self.rule.token in {None, token} and (self.rule.calls is None or call in self.rule.calls)


class Limiter:
    """Counts the requests of each token, by any number of rules. A request must pass all of them."""

    def __init__(self, clock: Clock) -> None:
        """Start without a rule.

        Args:
            clock: The emulator's clock.
        """
        self._clock = clock
        self._counters: list[_Counter] = []

    @property
    def rules(self) -> list[RateLimit]:
        """The rules, in the order in which they are applied."""
        return [counter.rule for counter in self._counters]

    @property
    def rule(self) -> RateLimit | None:
        """The first rule, or None. Setting it replaces all rules, and starts new windows."""
        return self._counters[0].rule if self._counters else None

    @rule.setter
    def rule(self, rule: RateLimit | None) -> None:
        self._counters = [] if rule is None else [_Counter(rule)]

    def add(self, rule: RateLimit) -> RateLimit:
        """Add a rule to those that exist.

        Returns:
            The rule.
        """
        self._counters.append(_Counter(rule))
        return rule

    def admit(self, token: str, call: Call) -> dict[str, str]:
        """Count a request.

        Args:
            token: The name of its token.
            call: The kind of call.

        Returns:
            Headers for its answer, by the rule that allows the fewest further requests.

        Raises:
            ApiError: 429, because a limit is exceeded.
        """
        now = self._clock.now_ms()
        tightest: tuple[int, dict[str, str]] | None = None
        for counter in self._counters:
            if counter.concerns(token, call):
                left, reset = counter.count(token, call, now)
                headers = _headers(counter.rule, left, reset)
                if left < 0:
                    raise _too_many(counter.rule, headers, now, reset)
                if tightest is None or left < tightest[0]:
                    tightest = left, headers
        return {} if tightest is None else tightest[1]


def _headers(rule: RateLimit, left: int, reset: int) -> dict[str, str]:
    if not rule.rate_limit_headers:
        return {}
    return {
        "X-RateLimit-Limit": str(rule.limit),
        "X-RateLimit-Remaining": str(max(left, 0)),
        "X-RateLimit-Reset": str(math.ceil(reset / 1000)),
    }


def _too_many(rule: RateLimit, headers: dict[str, str], now: int, reset: int) -> ApiError:
    fields: dict[str, JsonValue] = {}
    if rule.retry_after:
        headers = {**headers, "Retry-After": str(math.ceil((reset - now) / 1000))}
    if rule.retry_after_ms:
        fields["retryAfterMs"] = reset - now
    if rule.limit_in_body:
        fields["limit"] = {"remaining": 0, "reset": math.ceil(reset / 1000), "resetMs": reset, "total": rule.limit}
    return ApiError(429, rule.code, "Too many requests: slow down.", fields=fields, headers=headers)
