"""What Vercel sees of domains: whether DNS is set up, and which names it can issue for."""

from collections.abc import Iterable, Mapping, Sequence

from pydantic import JsonValue

from vercel_emulator.errors import ApiError
from vercel_emulator.models import EVERY_DOMAIN, Challenge, DomainConfig, DomainSetup, DomainView
from vercel_emulator.validation import root_domain

HELP_URL = "https://vercel.com/help"
_CONFIGURED = DomainSetup(misconfigured=False)
_BOTH: list[Challenge] = ["dns-01", "http-01"]


class Domains:
    """The domains whose setup was changed. All others are configured."""

    def __init__(self) -> None:
        """Start with every domain configured."""
        self._setups: dict[str, DomainSetup] = {}

    def set_up(self, domain: str, setup: DomainSetup) -> DomainView:
        """Set what Vercel sees of a domain and of the names below it.

        Args:
            domain: The domain; ``*`` for all. A name uses the setup of the closest domain above it.
            setup: What Vercel sees.

        Returns:
            The setup, as the control API shows it.

        Raises:
            ValueError: ``domain`` is a wildcard such as ``*.example.com``.
        """
        if domain.startswith("*."):
            raise ValueError(f"{domain!r} is a wildcard: name the domain itself, or * for all")
        self._setups[domain.lower()] = setup
        return self._view(domain.lower())

    def misconfigure(self, domain: str = EVERY_DOMAIN) -> DomainView:
        """Make DNS wrong for a domain and for the names below it (see ``set_up``)."""
        return self.set_up(domain, DomainSetup())

    def fix(self, domain: str = EVERY_DOMAIN) -> bool:
        """Forget the setup of a domain. Without another one above it, the domain is configured again.

        Returns:
            Whether it had a setup.
        """
        return self._setups.pop(domain.lower(), None) is not None

    def clear(self) -> None:
        """Configure every domain."""
        self._setups.clear()

    def views(self) -> list[DomainView]:
        """Return what the control API shows: the setups, in the order in which they were made."""
        return [self._view(domain) for domain in self._setups]

    def config(self, name: str) -> DomainConfig:
        """Return the configuration that Vercel's API shows for a domain name."""
        setup = self._setup(name)
        if setup.configured_by is not None or setup.misconfigured:
            configured_by = setup.configured_by
        else:
            configured_by = "A" if name.lower() == root_domain(name.lower()) else "CNAME"
        return DomainConfig(
            configured_by=configured_by,
            accepted_challenges=_challenges(setup),
            recommended_ipv4=setup.recommended_ipv4,
            recommended_cname=setup.recommended_cname,
            misconfigured=setup.misconfigured,
        )

    def check(self, names: Sequence[str]) -> None:
        """Check whether DNS is set up for the names of a certificate.

        Raises:
            ApiError: 449 ``configuration_error``, because a domain is misconfigured. ``cns`` has its names.
        """
        wrong = [name for name in names if self._setup(name).misconfigured]
        if not wrong:
            return
        fields: Mapping[str, JsonValue] = {
            "cns": list[JsonValue](wrong),
            "external": any(self._setup(name).external for name in wrong),
            "helpUrl": HELP_URL,
        }
        message = f"DNS is not set up for {', '.join(wrong)}."
        raise ApiError(449, "configuration_error", message, fields=fields)

    def wildcards_by_hand(self, names: Iterable[str]) -> list[str]:
        """Return the wildcards among these names for which a person must solve the challenge."""
        wildcards = [name for name in names if name.startswith("*.")]
        return [name for name in wildcards if "dns-01" not in _challenges(self._setup(name))]

    def _view(self, domain: str) -> DomainView:
        setup = self._setups[domain]
        return DomainView(domain=domain, **{name: getattr(setup, name) for name in DomainSetup.model_fields})

    def _setup(self, name: str) -> DomainSetup:
        labels = name.lower().removeprefix("*.").split(".")
        domains = [".".join(labels[start:]) for start in range(len(labels))]
        found = (self._setups[domain] for domain in [*domains, EVERY_DOMAIN] if domain in self._setups)
        return next(found, _CONFIGURED)


def _challenges(setup: DomainSetup) -> list[Challenge]:
    if setup.accepted_challenges is not None:
        return setup.accepted_challenges
    return [] if setup.misconfigured else list(_BOTH)
