"""Tell whoever waits that a batch has ended: one signed message, as Standard Webhooks and OpenAI have it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import time
from typing import Any

import aiohttp
import msgspec

from gateway.policy.model import WebhookSpec
from gateway.store import Batch

_log = logging.getLogger("gateway.batch")

_PATIENCE = 10.0  # seconds for one try
_MARK = "whsec_"


def message_of(batch: Batch) -> bytes:
    """Write the event of a batch that has ended: its id, how, and how many lines; never content."""
    at = batch.completed_at or batch.failed_at or batch.expired_at or batch.cancelled_at or batch.created_at
    data: dict[str, Any] = {"id": batch.id}
    if batch.summary is not None:
        counts = batch.summary
        data["request_counts"] = {"total": counts.total, "completed": counts.completed, "failed": counts.failed}
        data["by_outcome"] = counts.by_outcome
    event = {
        "id": f"evt_{batch.id.removeprefix('batch_')}",
        "object": "event",
        "type": f"batch.{batch.status}",
        "created_at": int(at.timestamp()),
        "data": data,
    }
    return msgspec.json.encode(event)


def signed(secret: str, id: str, body: bytes, now: int) -> dict[str, str]:
    """Give the headers that sign `body` with a secret, ``whsec_`` and base64; `now` is Unix time in seconds.

    Raises ValueError where the secret is none.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_MARK), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_MARK) or not key:
        raise ValueError("the secret is not `whsec_` and base64")
    told = base64.b64encode(hmac.digest(key, f"{id}.{now}.".encode() + body, hashlib.sha256)).decode()
    return {"webhook-id": id, "webhook-timestamp": str(now), "webhook-signature": f"v1,{told}"}


async def tell(spec: WebhookSpec, batch: Batch) -> bool:
    """Send the message once; tell whether it was taken (a status from 200 to 299).

    Its id is the batch's own, so that a receiver knows it again however often it comes.
    """
    body = message_of(batch)
    try:
        headers = signed(os.environ.get(spec.secret_env, ""), f"msg_{batch.id}", body, int(time.time()))
    except ValueError:
        _log.error("the webhook of a batch can not be signed: set %s to `whsec_` and base64", spec.secret_env)
        return False
    headers["content-type"] = "application/json"
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.post(spec.url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            status = answer.status
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        _log.warning("the webhook of a batch could not be told: %s", type(exc).__name__)
        return False
    if not 200 <= status < 300:
        _log.warning("the webhook of a batch was answered with status %d", status)
    return 200 <= status < 300
