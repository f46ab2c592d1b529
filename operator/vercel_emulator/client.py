"""A client of the control API, for an emulator that runs in another process."""

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import JsonValue, TypeAdapter

from vercel_emulator.models import (
    Behaviour,
    Call,
    Certificate,
    CertificateChange,
    ClockChange,
    ClockView,
    DomainSetup,
    DomainView,
    Fault,
    FaultView,
    Injection,
    JournalView,
    Model,
    RateLimit,
    Release,
    Renewal,
    Team,
    Then,
    TokenGrant,
    TokenRevocation,
)

M = TypeVar("M", bound=Model)


class ControlError(Exception):
    """The control API refused a request.

    Attributes:
        status: The HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        """Take the status and the message of the answer."""
        super().__init__(message)
        self.status = status


class EmulatorControl:
    """Controls an emulator over HTTP.

    Every method raises ``ControlError`` if the emulator refuses the request, and httpx's exceptions if the emulator
    can't be reached. The methods that wait raise ``TimeoutError``.

    Attributes:
        url: The emulator's base URL.
    """

    def __init__(self, url: str) -> None:
        """Prepare to connect.

        Args:
            url: The emulator's base URL.
        """
        self.url = url.rstrip("/")
        # Plain HTTP needs no certificates, and loading the default ones takes longer than a test may.
        verify = True if self.url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # A proxy in the environment must not come between a test and its emulator.
        self._client = httpx.AsyncClient(base_url=f"{self.url}/_emulator", trust_env=False, verify=verify)

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    # --- journal and certificates

    async def journal(self, since: int = 0, call: Call | None = None) -> JournalView:
        """Return the requests after a sequence number, of one kind of call or of all."""
        return await self._get(JournalView, "/journal", {"since": since, **({"call": call} if call else {})})

    async def wait_for_requests(
        self, call: Call, count: int = 1, *, finished: bool = False, within: int = 10
    ) -> JournalView:
        """Wait for so many requests of a call (``finished``: only finished ones); ``within`` in seconds."""
        query = {"call": call, "count": count, "timeout": within, "finished": str(finished).lower()}
        return await self._get(JournalView, "/journal/wait", query, within)

    async def clear_journal(self) -> None:
        """Forget every request. The next sequence number is 1."""
        await self._send("DELETE", "/journal")

    async def certificates(self, *, live: bool = False) -> list[Certificate]:
        """Return all certificates, or (``live``) those that have not been removed."""
        response = await self._send("GET", "/certificates", query={"live": str(live).lower()})
        return TypeAdapter(list[Certificate]).validate_json(response.content)

    async def inject(self, injection: Injection) -> Certificate:
        """Add a certificate, as another person would."""
        return await self._model(Certificate, "POST", "/certificates", injection)

    async def change(self, cert_id: str, change: CertificateChange) -> Certificate:
        """Change a certificate, as another person would."""
        return await self._model(Certificate, "PATCH", f"/certificates/{cert_id}", change)

    async def renew(self, cert_id: str, renewal: Renewal) -> Certificate:
        """Renew a certificate now, as Vercel would. Returns the one with the new expiry."""
        return await self._model(Certificate, "POST", f"/certificates/{cert_id}/renew", renewal)

    async def vanish(self, cert_id: str) -> Certificate:
        """Remove a certificate, as another person would."""
        return await self._model(Certificate, "DELETE", f"/certificates/{cert_id}")

    # --- faults

    async def add_fault(self, fault: Fault) -> FaultView:
        """Apply a fault to matching requests from now on."""
        return await self._model(FaultView, "POST", "/faults", fault)

    async def faults(self) -> list[FaultView]:
        """Return all faults, the oldest first."""
        return TypeAdapter(list[FaultView]).validate_json((await self._send("GET", "/faults")).content)

    async def wait_for_fault(self, fault_id: str, fired: int = 1, *, within: int = 10) -> FaultView:
        """Wait until a fault has fired so often; ``within`` in seconds."""
        return await self._get(FaultView, f"/faults/{fault_id}/wait", {"fired": fired, "timeout": within}, within)

    async def release(self, fault_id: str, then: Then = "continue", count: int | None = None) -> None:
        """Release hanging requests, the oldest first; all, or ``count``."""
        await self._send("POST", f"/faults/{fault_id}/release", Release(then=then, count=count))

    async def remove_fault(self, fault_id: str) -> None:
        """End and remove a fault."""
        await self._send("DELETE", f"/faults/{fault_id}")

    async def clear_faults(self) -> None:
        """End and remove all faults."""
        await self._send("DELETE", "/faults")

    # --- limits, clock, behaviour, domains, accounts

    async def limit(self, rule: RateLimit | None) -> None:
        """Replace all rate limits by one; None removes them."""
        await self._send("DELETE" if rule is None else "PUT", "/rate-limit", rule)

    async def add_limit(self, rule: RateLimit) -> None:
        """Add a rate limit to those that exist."""
        await self._send("POST", "/rate-limits", rule)

    async def limits(self) -> list[RateLimit]:
        """Return all rate limits."""
        return TypeAdapter(list[RateLimit]).validate_json((await self._send("GET", "/rate-limits")).content)

    async def clock(self) -> ClockView:
        """Return the time."""
        return await self._get(ClockView, "/clock", {})

    async def advance(self, seconds: float) -> ClockView:
        """Move the clock forward (or back) by some seconds."""
        return await self.move_clock(ClockChange(advance=seconds))

    async def move_clock(self, change: ClockChange) -> ClockView:
        """Move the clock."""
        return await self._model(ClockView, "POST", "/clock", change)

    async def behave(self, **switches: Any) -> Behaviour:
        """Set switches, by the names of the fields of ``Behaviour``."""
        return await self._model(Behaviour, "PATCH", "/behaviour", Behaviour(**switches))

    async def domains(self) -> list[DomainView]:
        """Return the domains whose setup was changed."""
        return TypeAdapter(list[DomainView]).validate_json((await self._send("GET", "/domains")).content)

    async def set_up_domain(self, domain: str, setup: DomainSetup) -> DomainView:
        """Set what Vercel sees of a domain (``*``: of all) and of the names below it."""
        return await self._model(DomainView, "PUT", f"/domains/{domain}", setup)

    async def misconfigure(self, domain: str) -> DomainView:
        """Make DNS wrong for a domain (``*``: for all) and for the names below it."""
        return await self.set_up_domain(domain, DomainSetup())

    async def fix_domain(self, domain: str) -> None:
        """Configure a domain again."""
        await self._send("DELETE", f"/domains/{domain}")

    async def grant(self, grant: TokenGrant) -> None:
        """Make a token valid."""
        await self._send("POST", "/tokens", grant)

    async def revoke(self, token: str) -> None:
        """Make a token invalid."""
        await self._send("POST", "/tokens/revoke", TokenRevocation(token=token))

    async def add_team(self, team: str, slug: str) -> None:
        """Add a team."""
        await self._send("POST", "/teams", Team(id=team, slug=slug))

    async def remove_team(self, team: str) -> None:
        """Remove a team."""
        await self._send("DELETE", f"/teams/{team}")

    async def reset(self) -> None:
        """Restore the initial state."""
        await self._send("POST", "/reset")

    # ---

    async def _get(self, model: type[M], path: str, query: Mapping[str, str | int], within: float = 0) -> M:
        return model.model_validate_json((await self._send("GET", path, query=query, within=within)).content)

    async def _model(self, model: type[M], method: str, path: str, body: Model | None = None) -> M:
        return model.model_validate_json((await self._send(method, path, body)).content)

    async def _send(
        self,
        method: str,
        path: str,
        body: Model | None = None,
        *,
        query: Mapping[str, str | int] | None = None,
        within: float = 0,
    ) -> httpx.Response:
        content: JsonValue = None
        if body is not None:
            content = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
        response = await self._client.request(method, path, json=content, params=query, timeout=within + 10)
        if response.status_code == 408:
            raise TimeoutError(response.json()["error"]["message"])
        if response.is_error:
            raise ControlError(response.status_code, response.json()["error"]["message"])
        return response
