"""Keys, holds, retention, reveals and erasure, driven at random against a plain model of what they promise."""

import asyncio
import contextlib
import datetime as dt
import shutil
import tempfile
from pathlib import Path
from unittest import SkipTest

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from store.kit import SECRET, postgres_database
from store.sealing import ELSEWHERE, OFFICER, OTHER, about, sealed

from gateway.errors import Conflict, NotFound, NotPermitted
from gateway.records import ErasureV1
from gateway.store import Store, load_keyring

OFFICERS = (OFFICER, OTHER, ELSEWHERE)
WHY = "as the model says"
_officers = st.sampled_from(OFFICERS)
_departments = st.sampled_from(["radiology", "pathology"])
_patients = st.sampled_from(["1", "2"])


class Content:
    """What the model knows of one decision's content."""

    def __init__(self, id_, text, department, patient, at, until):
        self.id, self.text, self.at, self.until = id_, text, at, until
        self.department, self.patient = department, patient
        self.verdict, self.readers = None, []
        self.erased = False

    @property
    def state(self):
        """What the review has come to; two people at most can read one decision here."""
        if not self.readers:
            return "open"
        if self.verdict.verdict == "agree":
            return "settled"
        if len(self.readers) == 1:
            return "second"
        return "escalated" if self.verdict.verdict == "escalate" else "settled"


class HoldModel:
    """What the model knows of one hold."""

    def __init__(self, id_, department, decisions, patient):
        self.id, self.department, self.decisions, self.patient = id_, department, decisions, patient
        self.requested_by = None
        self.released = False

    def covers(self, content):
        return (
            not self.released
            and self.department == content.department
            and (not self.decisions or content.id in self.decisions)
            and (self.patient is None or self.patient == content.patient)
        )


class Machine(RuleBasedStateMachine):
    """Each rule does one thing to the store and to the model, and compares what the two say."""

    contents = Bundle("contents")
    holds = Bundle("holds")
    keys = Bundle("keys")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.stack = contextlib.AsyncExitStack()
        self.store = self.do(self.open())
        self.now = dt.datetime.now(dt.UTC)
        self.model = {}
        self.held = {}
        self.boxes = set()
        self.log = []
        self.number = 0

    async def open(self):
        return await Store.open(
            f"sqlite:///{self.folder}/log.sqlite3", secret=SECRET, keyring=load_keyring(self.folder)
        )

    def do(self, work):
        return self.loop.run_until_complete(work)

    def is_held(self, content):
        return any(hold.covers(content) for hold in self.held.values())

    @rule(target=contents, department=_departments, patient=_patients, days=st.integers(1, 40))
    def seal(self, department, patient, days):
        self.number += 1
        text = f"question {self.number}"
        outcome = about(sealed(text, seconds=days * 86400.0), patient, department)
        logged = self.do(self.store.decisions.append(outcome))
        record = self.do(self.store.decisions.get(logged.id)).record
        content = Content(logged.id, text, department, record.context.patient, record.at, record.sealed.until)
        self.model[logged.id] = content
        return logged.id

    @rule(id_=contents, caller=_officers)
    def reveal(self, id_, caller):
        content = self.model[id_]
        look = self.store.vault.reveal(id_, caller, "test", WHY, 60)
        if caller.department != content.department:
            with pytest.raises(NotFound, match="no decision"):
                self.do(look)
            return
        self.boxes.add((id_, caller.key))
        self.compare(content, look)

    @rule(id_=contents, caller=_officers)
    def look_again(self, id_, caller):
        content = self.model[id_]
        look = self.store.vault.content(id_, caller, "test")
        if caller.department != content.department:
            with pytest.raises(NotFound, match="no decision"):
                self.do(look)
        elif (id_, caller.key) not in self.boxes:
            with pytest.raises(NotPermitted):
                self.do(look)
        else:
            self.compare(content, look)

    def compare(self, content, look):
        if content.erased:
            with pytest.raises(NotFound, match="was erased"):
                self.do(look)
        else:
            assert self.do(look).content.texts[0].text == content.text

    @rule(id_=contents, caller=_officers)
    def erase(self, id_, caller):
        content = self.model[id_]
        work = self.store.retention.erase([id_], caller, WHY)
        if caller.department != content.department:
            with pytest.raises(NotFound):
                self.do(work)
        elif not content.erased and self.is_held(content):
            with pytest.raises(Conflict, match="legal hold"):
                self.do(work)
        else:
            done = self.do(work)
            assert done.decisions == (() if content.erased else (id_,))
            content.erased = True

    @rule(days=st.integers(-5, 25))
    def retain(self, days):
        """Time goes on, and sometimes back."""
        self.now += dt.timedelta(days=days)
        due = [c for c in self.model.values() if not c.erased and c.until <= self.now]
        free = [c for c in due if not self.is_held(c)]
        done = self.do(self.store.retention.run(self.now))
        assert (done.erased, done.held, done.finished) == (len(free), len(due) - len(free), 0)
        for content in free:
            content.erased = True

    @rule(target=holds, caller=_officers, ids=st.lists(contents, max_size=2), patient=st.none() | _patients)
    def place(self, caller, ids, patient):
        pseudonym = None if patient is None else self.store.decisions.pseudonym("patient", patient)
        given = {"decisions": ids, "patient": pseudonym}
        if not ids and patient is None:
            given["department"] = caller.department
        hold = self.do(self.store.holds.place(caller, WHY, **given))
        self.held[hold.id] = HoldModel(hold.id, caller.department, tuple(ids), pseudonym)
        return hold.id

    @rule(id_=holds, caller=_officers)
    def request(self, id_, caller):
        hold = self.held[id_]
        work = self.store.holds.request_release(id_, caller, WHY)
        if caller.department != hold.department:
            with pytest.raises(NotFound):
                self.do(work)
        elif hold.released or hold.requested_by is not None:
            with pytest.raises(Conflict):
                self.do(work)
        else:
            self.do(work)
            hold.requested_by = caller

    @rule(id_=holds, caller=_officers)
    def release(self, id_, caller):
        hold = self.held[id_]
        work = self.store.holds.release(id_, caller, WHY)
        if caller.department != hold.department:
            with pytest.raises(NotFound):
                self.do(work)
        elif hold.released or hold.requested_by is None:
            with pytest.raises(Conflict):
                self.do(work)
        elif hold.requested_by is caller:
            with pytest.raises(NotPermitted):
                self.do(work)
        else:
            assert self.do(work).state == "released"
            hold.released = True

    @rule()
    def rotate(self):
        """The key-encryption key is replaced; what is there opens all the same."""
        alive = sum(not content.erased for content in self.model.values())
        done = self.do(self.store.vault.rotate_key(OFFICER))
        assert (done.wrapped, done.left) == (alive, {})

    @rule()
    def restart(self):
        self.do(self.store.close())
        self.store = self.do(self.open())

    @rule(target=keys, department=_departments)
    def create_key(self, department):
        key, text = self.do(self.store.keys.create(department, ("officer",)))
        return (key.id, department, text)

    @rule(key=keys, id_=contents)
    def read_with_key(self, key, id_):
        """A key that is good reads its own department, and no other."""
        caller = self.do(self.store.keys.authenticate(key[2]))
        assert (caller.key, caller.department) == key[:2]
        content = self.model[id_]
        look = self.store.vault.reveal(id_, caller, "test", WHY, 1)
        if caller.department == content.department:
            self.compare(content, look)
        else:
            with pytest.raises(NotFound):
                self.do(look)

    @rule(key=consumes(keys))
    def revoke_key(self, key):
        assert self.do(self.store.keys.revoke(key[0]))
        assert self.do(self.store.keys.authenticate(key[2])) is None

    @rule(id_=contents, caller=_officers, verdict=st.sampled_from(["agree", "false_negative", "escalate"]))
    def judge(self, id_, caller, verdict):
        content = self.model[id_]
        work = self.store.reviews.judge(id_, caller, verdict, WHY)
        if caller.department != content.department:
            with pytest.raises(NotFound):
                self.do(work)
        elif caller in content.readers:
            with pytest.raises(NotPermitted):
                self.do(work)
        elif content.readers:
            with pytest.raises(Conflict):
                self.do(work)
        else:
            content.verdict = self.do(work).step
            content.readers.append(caller)

    @rule(id_=contents, caller=_officers)
    def second(self, id_, caller):
        content = self.model[id_]
        refers = "rev_none" if content.verdict is None else content.verdict.id
        work = self.store.reviews.second(id_, refers, caller, True, WHY)
        if caller.department != content.department:
            with pytest.raises(NotFound):
                self.do(work)
        elif caller in content.readers:
            with pytest.raises(NotPermitted):
                self.do(work)
        elif not content.readers or len(content.readers) == 2:
            with pytest.raises(Conflict):
                self.do(work)
        else:
            content.readers.append(caller)
            assert self.do(work).review.state == content.state

    @invariant()
    def the_log_only_grew(self):
        rows = sorted(self.all_records(), key=lambda row: row.sequence)
        now = [(row.sequence, row.leaf) for row in rows]
        assert now[: len(self.log)] == self.log
        self.log = now

    @invariant()
    def what_is_held_is_what_the_model_says(self):
        found = self.do(self.store.holds.all())
        assert {id_: hold.open for id_, hold in found.items()} == {
            id_: not hold.released for id_, hold in self.held.items()
        }

    def all_records(self):
        kinds = ("decision.v1", "access.v1", "review.v1", "hold.v1", "erasure.v1", "change.v1")
        return [row for kind in kinds for row in self.do(self.store.decisions.recent(10_000, kind=kind))]

    def teardown(self):
        try:
            assert self.do(self.store.decisions.check()).ok
            for content in self.model.values():
                reader = ELSEWHERE if content.department == "pathology" else OFFICER
                state = self.do(self.store.reviews.history(content.id, reader)).review.state
                assert state == content.state
            erasures = [row.record for row in self.all_records() if isinstance(row.record, ErasureV1)]
            erased = sorted(id_ for erasure in erasures for id_ in erasure.decisions)
            assert erased == sorted(content.id for content in self.model.values() if content.erased)
            assert self.do(self.store.sequencer.catch_up()) == self.do(self.store.decisions.count())
        finally:
            self.do(self.store.close())
            self.do(self.stack.aclose())
            self.loop.close()
            shutil.rmtree(self.folder, ignore_errors=True)


class PostgresMachine(Machine):
    """The same on PostgreSQL."""

    async def open(self):
        if not hasattr(self, "url"):
            try:
                self.url = await self.stack.enter_async_context(postgres_database())
            except pytest.skip.Exception as exc:
                raise SkipTest(str(exc)) from None
        return await Store.open(self.url, secret=SECRET, keyring=load_keyring(self.folder))


_COMMON = settings(
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink takes minutes, and thirty steps can be read
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
Machine.TestCase.settings = settings(_COMMON, max_examples=10, stateful_step_count=30)
PostgresMachine.TestCase.settings = settings(_COMMON, max_examples=2, stateful_step_count=20)

TestOnSQLite = Machine.TestCase
TestOnPostgres = pytest.mark.service(PostgresMachine.TestCase)
