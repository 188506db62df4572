"""What the gateway runs by is noted when it changes, and only then."""

from store.kit import SECRET, outcomes

from gateway.records import Caller
from gateway.store import Store


async def _changes(store):
    rows = await store.decisions.recent(100, kind="change.v1")
    return [(r.record.what, r.record.subject, r.record.before, r.record.after) for r in reversed(rows)]


async def test_only_a_change_is_noted(url):
    store = await Store.open(url, secret=SECRET)
    first = {"radiology": "aa", "pathology": "bb"}
    assert await store.configured.note("policy-loaded", first) == ("pathology", "radiology")
    assert await store.configured.note("policy-loaded", first) == ()
    await store.decisions.append(outcomes.refused())
    await store.close()
    store = await Store.open(url, secret=SECRET)
    try:
        assert await store.configured.note("policy-loaded", first | {"radiology": "cc"}) == ("radiology",)
        assert await store.configured.note("identity-loaded", {"radiology": "cc"}) == ("radiology",)
        assert await _changes(store) == [
            ("policy-loaded", "pathology", None, "bb"),
            ("policy-loaded", "radiology", None, "aa"),
            ("policy-loaded", "radiology", "aa", "cc"),
            ("identity-loaded", "radiology", None, "cc"),
        ]
    finally:
        await store.close()


async def test_it_says_by_whom(url):
    store = await Store.open(url, secret=SECRET)
    try:
        await store.configured.note("policy-loaded", {"radiology": "aa"})
        admin = Caller(key="k", department="*", roles=("admin",), person="r.ode")
        await store.configured.note("review-plan", {"radiology": "bb"}, admin)
        rows = await store.decisions.recent(2, kind="change.v1")
        assert [(r.record.caller.key, r.record.caller.via, r.record.caller.person) for r in rows] == [
            ("k", "key", "r.ode"),
            ("system", "system", None),
        ]
    finally:
        await store.close()
