"""Answers to POSTs that arrive when the resource is gone: the certificate is removed, or reported."""

import logging

from vercel_certificate_operator.clock import Clock
from vercel_certificate_operator.core.failures import Failure, Fate
from vercel_certificate_operator.core.known import CallKey, Remove, Reply
from vercel_certificate_operator.core.memory import Memory
from vercel_certificate_operator.core.resource import Key
from vercel_certificate_operator.core.rules.deletion import late_answer, removal_failed_note, removed_late_note
from vercel_certificate_operator.kube.errors import Gone
from vercel_certificate_operator.kube.tokens import TokenMissing, Tokens
from vercel_certificate_operator.kube.vercel_certificates import VercelCertificates
from vercel_certificate_operator.objects import Objects, key_of
from vercel_certificate_operator.publisher import Publisher
from vercel_certificate_operator.vercel import VercelError
from vercel_certificate_operator.vercel_calls import Paused, VercelCalls
from vercel_certificate_operator.vercel_failures import failure_of

logger = logging.getLogger(__name__)


class LateAnswers:
    """Handles the answer to a POST whose resource was deleted meanwhile."""

    def __init__(
        self,
        objects: Objects,
        certificates: VercelCertificates,
        tokens: Tokens,
        calls: VercelCalls,
        clock: Clock,
        publisher: Publisher,
    ) -> None:
        self._objects = objects
        self._kube = certificates
        self._tokens = tokens
        self._calls = calls
        self._clock = clock
        self._publisher = publisher

    async def settle(self, key: Key, memory: Memory, reply: Reply) -> Memory | None:
        """Settles one answer.

        Returns:
            None: it is settled. Otherwise the memory with the failure: it has to be tried again.

        Raises:
            KubeError: the API server could not be asked.
            Waiting: all slots are taken.
        """
        if await self._is_still_there(key):
            logger.warning("%s no longer matches the selector; the instance that serves it finishes its attempt", key)
            return None
        late = late_answer(memory.spec, reply, self._objects.held_elsewhere(key))
        if isinstance(late, Remove):
            self._objects.reserve_removal(key, late.certificate_id)  # a namesake must not use it
            failed = await self._remove(key, memory, late)
            if failed is not None:
                return failed
            late = removed_late_note(late.certificate_id)
        if late is not None:
            self._publisher.publish(key, late, reply.attempt)
        return None

    async def _is_still_there(self, key: Key) -> bool:
        """Returns whether an object that is out of sight still exists: by its labels, another instance serves it."""
        try:
            return key_of(await self._kube.get(key)) == key
        except Gone:
            return False

    async def _remove(self, key: Key, memory: Memory, remove: Remove) -> Memory | None:
        try:
            token = await self._tokens.get_for_removal(key.namespace, memory.spec.token_secret_ref, key.uid)
            if await self._calls.remove(key, remove.certificate_id, remove.scope, token):
                self._objects.note_removal(remove.certificate_id)
        except Paused as paused:
            failure = Failure(Fate.NOT_SENT, paused.pause.message)
        except TokenMissing as missing:
            failure = Failure(Fate.NO_TOKEN, str(missing))
        except VercelError as error:
            failure = failure_of(error)
        else:
            return None
        call: CallKey = ("remove", remove.certificate_id)
        after = memory.call_failed(call, failure, self._clock.monotonic(), seed=key.uid, token_hash=None)
        if call not in memory.failed:
            self._publisher.publish(key, removal_failed_note(remove.certificate_id, failure.message))
        return after
