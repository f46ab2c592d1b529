"""Rate limits."""

import math

from vercel_emulator.clock import Clock
from vercel_emulator.errors import ApiError
from vercel_emulator.models import Call, RateLimit


class Limiter:
    """Counts the requests of each token while there is a rule."""

    def __init__(self, clock: Clock) -> None:
        """Start without a limit.

        Args:
            clock: The emulator's clock.
        """
        self._clock = clock
        self._rule: RateLimit | None = None
        self._windows: dict[str, tuple[int, int]] = {}

    @property
    def rule(self) -> RateLimit | None:
        """The limit, or None. Setting it starts new windows."""
        return self._rule

    @rule.setter
    def rule(self, rule: RateLimit | None) -> None:
        self._rule = rule
        self._windows.clear()

    def admit(self, token: str, call: Call) -> dict[str, str]:
        """Count a request.

        Args:
            token: The name of its token.
            call: The kind of call.

        Returns:
            Headers for its answer.

        Raises:
            ApiError: 429, because the limit is exceeded.
        """
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
