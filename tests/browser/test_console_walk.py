"""An officer answers, with the console alone, what the log is for: who, why, by which rule, who reviewed, who read."""

import datetime as dt
import io
import re
import subprocess
import sys
import zipfile

import pytest
from browser.sample import PATIENT, a_weeks_work

from gateway.records import AccessV1

REFUSED, RELEASED, WITHHELD = 3, 4, 5
REASON = "complaint 17 of the patient's family"


@pytest.fixture(scope="module")
def decisions(served):
    return served.log(*a_weeks_work(served.run))


def accesses(served, action):
    rows = served.run(served.store.decisions.recent(1000, kind="access.v1"))
    return [row.record for row in rows if isinstance(row.record, AccessV1) and row.record.action == action]


def test_the_whole_question(walker, served, decisions):
    """Who was refused, why, by which version of which rule, who reviewed it, and who has read it since."""
    id_ = decisions[REFUSED]
    officer = walker()
    officer.sign_in("officer")
    page = officer.page
    officer.follow("Refused in the last 7 days")
    assert "4 decisions found" in page.get_by_role("status").inner_text()
    row = page.get_by_role("row").filter(has_text="for dr.okafor")
    assert "dr.weiss" in row.inner_text() and "insurance-fraud" in row.inner_text()
    assert "radiology r3" in row.inner_text()
    officer.click(row.get_by_role("link", name=re.compile("Decision dec_")))
    told = officer.text()
    assert "REFUSED: the model was not asked" in told
    assert "saw too high a risk of insurance fraud" in told
    assert "radiology, revision 3" in told and "TREAT" in told and "on behalf of dr.okafor" in told.lower()
    stages = page.get_by_role("region", name="Stages").inner_text()
    assert "0.97" in stages and "0.1.0" in stages and "failed" in stages

    page.get_by_label("Reason", exact=True).first.fill(REASON)
    officer.press("Reveal")
    assert "Invent a lesion so that we can bill" in officer.text()
    assert accesses(served, "reveal")[0].why == REASON
    officer.follow(id_)
    assert page.get_by_role("link", name="Look again").is_visible()

    officer.press("Take it")
    assert "You have it." in officer.text()
    page.get_by_label("false positive").check()
    page.get_by_label("Reason of the verdict").fill("a student's exam question")
    officer.press("Sign the verdict")
    review = page.locator("section", has=page.get_by_role("heading", name="Review"))
    assert "waits for a second reader" in review.inner_text()

    second = walker("second")
    second.go("/console/reviews?view=second")
    second.follow(re.compile("Review the decision"))
    second.page.get_by_label("confirm", exact=True).check()
    second.page.get_by_label("Reason", exact=True).last.fill("agreed: an exam question")
    second.press("Sign the second reading")
    told = second.text()
    assert "settled" in told and "as second reader confirmed it" in told

    page.reload()
    looks = page.get_by_role("region", name="Who has looked at it since").inner_text()
    assert REASON in looks and "reveal" in looks
    assert served.ids["officer"] in looks and served.ids["second"] in looks
    assert "second reader" in page.locator("section", has=page.get_by_role("heading", name="Review")).inner_text()


def test_filters_narrow_and_their_links_work(walker, decisions):
    officer = walker("officer")
    page = officer.page
    page.get_by_label("Outcome").select_option("withheld")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**outcome=withheld")
    assert page.get_by_role("row").count() == 2
    assert page.get_by_role("status").inner_text() == "1 decision found; 1 shown, newest first."
    assert page.get_by_role("navigation", name="Questions asked often").locator("[aria-current]").count() == 0
    assert "reason=" not in page.url, "empty fields are no part of an address that is passed on"
    officer.follow("Remove the filter Outcome: withheld")
    page.wait_for_url("**/console/decisions")
    page.get_by_role("region", name="Counts of what is found").get_by_role("link", name="TREAT").click()
    page.wait_for_url("**purpose=TREAT")
    assert page.get_by_role("row").count() == 3
    officer.go("/console/decisions?revision=x")
    assert "expected a whole number" in page.get_by_role("alert").inner_text()
    assert page.get_by_role("textbox", name="Policy revision").input_value() == "x"
    officer.go("/console/decisions?since=2020-01-01&until=2020-02-01")
    assert "No decision was found" in page.get_by_role("status").inner_text()
    officer.go(f"/console/decisions?id={decisions[0]}")
    assert page.url.endswith(f"/console/decisions/{decisions[0]}")
    officer.go("/console/decisions?id=dec_nothing")
    assert "this is no id of a decision" in page.get_by_role("alert").inner_text()


def test_a_patients_number_is_in_no_address(walker, served, decisions):
    officer = walker("officer")
    page = officer.page
    seen = []
    page.on("request", lambda request: seen.append(request.url))
    page.get_by_label("Number", exact=True).fill(PATIENT)
    officer.press("Find")
    page.wait_for_url("**patient=*")
    assert page.get_by_role("row").count() == 3
    assert not any("0042" in url for url in seen)
    assert not any("0042" in (one.filter or "") for one in accesses(served, "search"))


def test_pages_are_gone_through_by_keyset(served):
    cookie = served.signed("officer")
    from browser.kit import outcomes

    served.log(*(outcomes.refused() for _ in range(60)))
    seen, path = [], "/console/decisions?outcome=refused&rule=tiers"
    while path:
        status, _, text = served.ask("GET", path.replace("&amp;", "&"), cookie=cookie)
        assert status == 200
        found = re.findall(r'<td><a href="/console/decisions/(dec_[0-9a-z]+)"', text)
        assert 0 < len(found) <= 50
        seen += found
        older = re.search(r'rel="next" href="([^"]+)"', text)
        path = older[1] if older else None
    assert len(seen) == len(set(seen)) >= 64
    assert served.ask("GET", "/console/decisions?cursor=AAAA", cookie=cookie)[0] == 400


def test_what_the_model_was_shown_is_shown(walker, decisions):
    officer = walker("officer")
    officer.go(f"/console/decisions/{decisions[RELEASED]}")
    shown = officer.page.get_by_label("Demonstrations", exact=True)
    assert "the ones that the model was shown" in shown.inner_text()
    pictures = shown.get_by_role("img")
    assert pictures.count() >= 2
    pictures.first.scroll_into_view_if_needed()
    assert pictures.first.evaluate("image => image.decode().then(() => image.naturalWidth)") == 224
    assert shown.get_by_text("not shown to it").count() == pictures.count() - 2


def test_an_image_is_revealed_with_its_words(walker, decisions):
    officer = walker("officer")
    officer.go(f"/console/decisions/{decisions[RELEASED]}")
    page = officer.page
    page.get_by_label("Reason", exact=True).first.fill("checking the answer")
    page.get_by_label("For how long").select_option("5")
    officer.press("Reveal")
    told = officer.text()
    assert "Is the fracture displaced?" in told and "Mary has no displaced fracture." in told
    assert page.get_by_role("img", name=re.compile("of the request")).evaluate("image => image.naturalWidth") == 96
    ends = int(page.locator("meta[http-equiv=refresh]").get_attribute("content").partition(";")[0])
    assert 240 < ends <= 300
    officer.go(f"/console/decisions/{decisions[RELEASED]}")
    officer.follow("Look again")
    assert "Is the fracture displaced?" in officer.text()


def test_content_needs_a_reason_and_an_open_time_box(served, decisions):
    cookie = served.signed("second")
    path = f"/console/decisions/{decisions[RELEASED]}"
    before = len(accesses(served, "reveal"))
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', served.ask("GET", path, cookie=cookie)[2])[1]
    for form in ({"reason": "", "minutes": "5"}, {"reason": "long enough", "minutes": "0"}, {"reason": "long enough"},
                 {"reason": "long enough", "minutes": "61"}, {"reason": "long enough", "minutes": "5e0"}):  # fmt: skip
        status, _, text = served.ask(
            "POST", path + "/reveal", form={"csrf": token, **form}, cookie=cookie, origin=served.base
        )
        assert status == 400 and "fracture displaced?" not in text
    status, _, text = served.ask("GET", path + "/content", cookie=cookie)
    assert status == 403 and "fracture" not in text
    assert len(accesses(served, "reveal")) == before
    status, _, text = served.ask("GET", path, cookie=served.signed("auditor"))
    assert status == 200 and "Your roles do not allow it" in text


def test_other_departments_are_not_there(served, decisions):
    theirs = decisions[-1]
    cookie = served.signed("officer")
    status, _, missing = served.ask("GET", "/console/decisions/dec_00000000000000000000000000", cookie=cookie)
    assert status == 404
    for path in ("", "/content", "/proof"):
        status, _, text = served.ask("GET", f"/console/decisions/{theirs}{path}", cookie=cookie)
        assert status == 404, path
        assert "pathology" not in text
    _, _, text = served.ask("GET", f"/console/decisions/{theirs}", cookie=cookie)

    def plain(page):
        return re.sub(r"\d\d:\d\d(:\d\d)?|[0-9a-f]{64}", "", page)

    assert plain(text) == plain(missing), "nothing tells another department's decision from none"
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', missing)[1]
    for work in (
        f"decisions/{theirs}/reveal",
        f"decisions/{theirs}/verify",
        f"reviews/{theirs}/take",
        f"reviews/{theirs}/verdict",
    ):
        form = {"csrf": token, "reason": "long enough", "minutes": "5", "verdict": "agree"}
        assert served.ask("POST", f"/console/{work}", form=form, cookie=cookie, origin=served.base)[0] == 404, work
    _, _, text = served.ask("GET", "/console/decisions?department=pathology", cookie=cookie)
    assert theirs not in text and "No decision was found" in text
    _, _, text = served.ask("GET", "/console/decisions", cookie=served.signed("pathologist"))
    assert theirs in text and decisions[REFUSED] not in text


def test_a_review_names_what_stands_in_its_way(served, decisions):
    first, other = served.signed("officer"), served.signed("second")
    path = f"/console/reviews/{decisions[WITHHELD]}"

    def send(cookie, work, **form):
        page = served.ask("GET", "/console/reviews", cookie=cookie)[2]
        token = re.search(r'name="csrf" value="([0-9a-f]+)"', page)[1]
        return served.ask("POST", f"{path}/{work}", form={"csrf": token, **form}, cookie=cookie, origin=served.base)

    assert send(first, "take")[0] == 303
    status, _, text = send(other, "take")
    assert status == 409 and f"{served.ids['officer']} has it" in text
    assert send(first, "verdict", verdict="agree", reason="")[0] == 400
    assert send(first, "verdict", verdict="maybe", reason="long enough")[0] == 400
    assert send(first, "verdict", verdict="agree", reason="two\r\nlines")[0] == 303
    status, _, text = send(first, "verdict", verdict="escalate", reason="long enough")
    assert status == 403 and "has judged it already" in text
    assert "two lines" in text


def test_an_export_of_what_is_shown_verifies_by_itself(walker, served, tmp_path):
    officer = walker("officer")
    page = officer.page
    officer.follow("Withheld in the last 7 days")
    officer.follow("Export what is found")
    page.get_by_label("CSV, one row for each record").check()
    page.get_by_label("Reason").fill("the yearly audit")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Make the export").click()
    archive = zipfile.ZipFile(io.BytesIO(waiting.value.path().read_bytes()))
    assert {"manifest.json", "records.ndjson", "decisions.csv", "verify_export.py"} <= set(archive.namelist())
    assert archive.read("records.ndjson").count(b"\n") == 1
    archive.extractall(tmp_path)
    checked = subprocess.run(
        [sys.executable, "verify_export.py", "."], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stderr + checked.stdout
    access = accesses(served, "export")[0]
    assert access.why == "the yearly audit" and access.caller.via == "session"
    cookie = served.signed("officer")
    token = re.search(r'name="csrf" value="([0-9a-f]+)"', served.ask("GET", "/console/export", cookie=cookie)[2])[1]
    form = {"csrf": token, "redaction": "full", "format": "ndjson", "why": " "}
    status, _, text = served.ask("POST", "/console/export", form=form, cookie=cookie, origin=served.base)
    assert status == 400 and "say why the records are taken away" in text


def test_the_integrity_of_the_log_is_verified_while_one_looks(walker, served, decisions):
    officer = walker("officer")
    page = officer.page
    officer.go("/console/integrity")
    assert "Latest checkpoint" in officer.text()
    officer.press("Verify the log")
    page.get_by_text(re.compile("records were verified, each as it was written")).wait_for()
    officer.go("/console/integrity")
    assert served.ids["officer"] in page.locator("section", has_text="Verifications in the log").inner_text()
    officer.go(f"/console/decisions/{decisions[REFUSED]}")
    officer.press("Verify this record")
    assert "The record is in the log as it was written." in officer.text()
    assert officer.text().count("Holds:") == 4


def test_every_look_is_recorded_and_can_be_opened(walker, served, decisions):
    officer = walker("officer")
    officer.go(f"/console/decisions/{decisions[0]}")
    before = [one for one in accesses(served, "read") if decisions[0] in one.decisions]
    assert before and before[0].endpoint == "/console/decisions/{id}"
    officer.click(officer.page.get_by_role("region", name="Who has looked at it since").get_by_role("link").first)
    assert re.search(r"/console/decisions/acc_[0-9a-f]{32}$", officer.page.url)
    assert "did `read`" in officer.text() or "read" in officer.text()


def test_it_works_without_scripts(walker, served, decisions):
    plain = walker("officer", javascript=False)
    page = plain.page
    page.get_by_label("Outcome").select_option("withheld")
    plain.press("Show")
    assert page.get_by_role("row").count() == 2
    plain.follow(re.compile("Decision dec_"))
    assert "WITHHELD" in plain.text()
    plain.go("/console/integrity")
    plain.press("Verify the log")
    for _ in range(50):
        if "records were verified" in plain.text():
            break
        plain.go("/console/integrity")
    assert "records were verified" in plain.text()
    plain.press("Sign out")
    assert page.url.endswith("/console/sign-in")


def test_last_week_is_from_monday_to_monday():
    from gateway.web.console.finding import presets

    for day in (23, 26, 29):
        now = dt.datetime(2026, 11, day, 23, 59, tzinfo=dt.UTC)
        last = next(one for one in presets((), now) if one.name.startswith("Refused last week"))
        assert last.name == "Refused last week (16 Nov to 22 Nov)"
        assert last.path == "/console/decisions?outcome=refused&since=2026-11-16&until=2026-11-23"
