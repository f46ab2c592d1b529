"""Waiting times and tolerances that several rules use, each with its reason."""

from datetime import timedelta

CLOCK_TOLERANCE = timedelta(seconds=2)
"""How far Vercel's clock can be misjudged: its Date header has whole seconds, and an answer takes a while."""
LATE_DATE = timedelta(minutes=1)
"""How far in the future a time may seem to be that was recorded a moment ago: an answer, and its Date, may be late."""
BACK_DATED = timedelta(hours=2)
"""How long before its attempt a certificate can claim to have been created."""
USUAL_BACK_DATING = timedelta(hours=1)
"""By how long issuers set the time of creation (notBefore) back, if they do.

Source: Let's Encrypt, whose certificates are valid from an hour before they were issued.
"""
SENT_WITHIN = timedelta(seconds=10)
"""How long after its record an attempt is sent, at most."""
LIST_LAG = timedelta(seconds=30)
"""How long a certificate may be missing from a list that was begun after it was created."""
MOST_KNOWN = 100
"""Ids that an attempt records as known: the youngest."""
MOST_HOLDERS_READ = 5
"""Certificates of other resources with the same names that are read before an attempt."""
LIST_AGE = 600.0
"""Seconds that a list may be old, at most, when an attempt is made from it."""
LEAST_LIST_AGE = 5.0
"""Seconds that it may always be old: what waited for it may have to wait for its turn."""
AWAITED_LIST_AGE = 120.0
"""Seconds that it may always be old for a resource that has waited for it, and while Vercel rate limits the token. If
very many are due, others go first, and one more list for each of them would delay all. And where Vercel allows one
request a minute, a list would take that of the certificate each time."""
LIST_AGE_PER_CERTIFICATE = 0.6
"""Seconds that it may be old for each certificate in it: what costs little is done more often. A page has 100
certificates, so a long burst of attempts makes about one request a minute for lists."""
LATE_IN_LIST = timedelta(minutes=10)
"""A certificate that is younger may still be missing from Vercel's list. So that is no sign of a wrong token, and if
Vercel answers a request with such a certificate, it may be someone else's."""
DRIFT_LIST_AGE = 60.0
"""Seconds that a list may be old to detect drift."""
FIRST_LIST_AFTER = 5.0
"""Seconds between the first two lists that look for an attempt's certificate; the time between them doubles."""
VANISHED_CHECK = timedelta(hours=1)
"""How often a vanished scope is listed again."""
BY_HAND_CHECK = timedelta(hours=1)
"""How often the operator looks for a certificate that the user may make by hand."""
DUPLICATE_CHECK = timedelta(hours=1)
"""How often a duplicate whose scope may be another one is checked again."""
ATTEMPT_ELSEWHERE_CHECK = timedelta(seconds=30)
"""How often a resource checks whether another one's attempt for the same names is over. The next in line is woken when
it is."""
CLOCK_CHECK = timedelta(minutes=2)
"""How often the operator asks Vercel for its time while Vercel's clock and the API server's disagree."""
TOKEN_CHECK = timedelta(minutes=1)
"""How often a token that was rejected is read again."""
TOKEN_MISSING_LIMIT = 3600.0
"""Seconds for which a deleted resource waits for a token that is missing."""
UNREADABLE_LIMIT = 3600.0
"""Seconds after which a certificate whose GET always fails no longer counts, where another one would do."""
ISSUANCE_WINDOW = timedelta(days=7)
"""The window of the issuance limit: that of the issuer's own limit for one set of names."""
SHORTEST_ISSUANCE_WINDOW = timedelta(hours=1)
SCHEMA_CHECK = timedelta(minutes=10)
"""How often the operator tries again whether the API server stores its whole record."""
