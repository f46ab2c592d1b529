"""Rate limits: so many requests per token in a window."""

import math

from vercel_emulator.clock import Clock
from vercel_emulator.errors import ApiError
from vercel_emulator.models import Call, RateLimit


class Limiter:
    """Counts the requests of each token while ``rule`` is set. None: nothing is limited."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rule: RateLimit | None = None
        self._windows: dict[str, tuple[int, int]] = {}

    @property
    def rule(self) -> RateLimit | None:
        """The limit in force. Setting it begins new windows."""
        return self._rule

    @rule.setter
    def rule(self, rule: RateLimit | None) -> None:
        self._rule = rule
        self._windows.clear()

    def admit(self, token: str, call: Call) -> dict[str, str]:
        """Count a request; the headers that go with its answer. Raises ApiError (429) for one too many."""
        rule = self._rule
        if rule is None or (rule.calls is not None and call not in rule.calls):
            return {}
        now, length = self._clock.now_ms(), max(round(rule.window * 1000), 1)
        start, used = self._windows.get(token, (now, 0))
        if not start <= now < start + length:
            start, used = now, 0
        self._windows[token] = (start, used + 1)
        reset = start + length
        headers = {}
        if rule.rate_limit_headers:
            headers = {
                "X-RateLimit-Limit": str(rule.limit),
                "X-RateLimit-Remaining": str(max(rule.limit - used - 1, 0)),
                "X-RateLimit-Reset": str(math.ceil(reset / 1000)),
            }
        if used < rule.limit:
            return headers
        if rule.retry_after:
            headers["Retry-After"] = str(math.ceil((reset - now) / 1000))
        fields = {"retryAfterMs": reset - now} if rule.retry_after_ms else {}
        raise ApiError(429, rule.code, "Too many requests: slow down.", fields=fields, headers=headers)
