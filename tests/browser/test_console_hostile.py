"""What callers, keys and people write stays text, and what other sites send stays out: in a real browser."""

import contextlib
import http.server
import re
import threading
import urllib.parse

import pytest
from browser.kit import outcomes
from browser.sample import CALLER, sealed, told

CORPUS = (
    "<script>alert(1)</script>",
    "\"><script src='//evil.example/x.js'></script>",
    "<img src=x onerror=alert(1)>",
    "'\"><svg/onload=alert(1)>",
    "</pre></textarea></title></style></script><script>alert(1)</script>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "<a href=javascript:alert(1) autofocus onfocus=alert(1)>x</a>",
    "javascript:alert(1)",
    "<div hx-get='/console/sign-out' hx-trigger='load' hx-on::load='alert(1)'></div>",
    "<form action='//evil.example/'><input name=csrf><button autofocus>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    "<link rel=stylesheet href='//evil.example/x.css'><style>@import '//evil.example/y.css';*{display:none}</style>",
    "<base href='//evil.example/'>",
    "<object data='//evil.example/'></object><embed src='//evil.example/'>",
    "{{ 7 * 7 }}{% for x in ().__class__.__mro__ %}{{ x }}{% endfor %}${7*7}",
    "&lt;script&gt;alert(1)&lt;/script&gt; &#60;b&#62;",
    "<!-- --!><script>alert(1)</script> ]]> <![CDATA[",
    "\N{FULLWIDTH LESS-THAN SIGN}script\N{FULLWIDTH GREATER-THAN SIGN}alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "`code` with ` an odd backtick",
)
BUILT = "iframe, object, embed, base, svg, form[action^='//'], [onerror], [onload], [onfocus], script:not([src]), style"


def one_line(words):
    return " ".join(word for word in words if word.isprintable())


def built(page):
    """Count the elements that only a hostile text could have made."""
    return page.locator(BUILT).count() + page.get_by_text("49", exact=True).count()


def test_what_was_asked_and_answered_is_shown_as_it_is(walker, served):
    joined = "\n".join(CORPUS) + "\n\u202egnirts\u202c\u2028end"
    outcome = outcomes.released(joined, joined, stop=CORPUS)
    id_ = served.log(told(sealed(outcome)))[0]
    officer = walker("officer")
    page = officer.page
    officer.go(f"/console/decisions/{id_}")
    reason = one_line(CORPUS)[:990]
    page.get_by_label("Reason", exact=True).first.fill(reason)
    officer.press("Reveal")
    page.wait_for_url("**/reveal")
    shown = page.locator("pre.content").all_text_contents()
    assert [text.strip("\n") for text in shown].count(joined) == 4  # asked, answered twice, and what left is redacted
    for word in CORPUS:
        assert word in shown
    assert built(page) == 0
    officer.go(f"/console/decisions/{id_}")
    assert reason in page.locator("main").text_content()
    assert built(page) == 0


def test_reasons_of_reviews_are_text(walker, served):
    id_ = served.log(told(outcomes.refused()))[0]
    officer = walker("officer")
    page = officer.page
    officer.go(f"/console/decisions/{id_}")
    reason = one_line(CORPUS)[:990]
    page.get_by_label("escalate").check()
    page.get_by_label("Reason of the verdict").fill(reason)
    officer.press("Sign the verdict")
    page.wait_for_url("**#review")
    assert reason in re.sub(r"\s+", " ", page.locator("main").text_content())
    assert built(page) == 0
    officer.go("/console/reviews?view=second")
    assert id_ in page.content() and built(page) == 0


@pytest.mark.parametrize("field", ["rule", "person", "patient", "since", "nosuchfield"])
def test_filter_values_are_text(walker, served, field):
    cookie = served.signed("officer")
    for word in CORPUS:
        _, _, text = served.ask("GET", f"/console/decisions?{urllib.parse.urlencode({field: word})}", cookie=cookie)
        assert not re.search(r"<(script(?! src=\"/console)|img|svg|iframe|base|object|embed|style)\b", text)
    officer = walker("officer")
    for word in CORPUS[:3]:
        officer.go(f"/console/decisions?{urllib.parse.urlencode({field: word})}")
        assert built(officer.page) == 0
        for path in ("/console/export", "/console/sign-in", "/console/reviews"):
            query = urllib.parse.urlencode({field: word, "next": word, "view": word, "cursor": word})
            assert served.ask("GET", f"{path}?{query}")[0] in (200, 303)
        officer.go(f"/console/export?{urllib.parse.urlencode({field: word})}")
        assert built(officer.page) == 0


def test_names_of_people_and_applications_are_text(walker, served):
    name, application = CORPUS[2] + CORPUS[3], "<script>alert(2)</script>"
    key, text = served.run(
        served.store.keys.create("radiology", ("officer",), label=CORPUS[0], person=name, application=application)
    )
    served.keys["hostile"], served.ids["hostile"] = text, key.id
    said = {"on_behalf_of": CORPUS[0], "task": CORPUS[1], "claimed_person": CORPUS[2], "claimed_application": CORPUS[3]}
    caller = CALLER.__class__(
        key="0123456789ab", department="radiology", roles=("caller",), person=name, application=application
    )
    id_ = served.log(told(outcomes.refused(), caller=caller, context={**said, "purpose": CORPUS[4]}))[0]
    officer = walker("hostile")
    page = officer.page
    assert name in page.locator(".who").text_content()
    for path in ("/console/decisions", f"/console/decisions/{id_}", "/console/reviews", "/console/integrity"):
        officer.go(path)
        assert built(page) == 0, path
    officer.go(f"/console/decisions/{id_}")
    assert name in page.locator("main").text_content() and application in page.locator("main").text_content()
    assert page.get_by_text("unfit").count() >= 4, "what is no id or code is not kept"
    officer.press("Take it")
    assert built(page) == 0


class Elsewhere:
    """Another site: a page of its own on another port."""

    def __init__(self, body) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_address[1]

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def victim(chromium, served):
    """A browser of someone who is signed in and opens another site."""
    context = chromium.new_context(base_url=served.base)
    page = context.new_page()
    page.goto("/console/sign-in")
    page.get_by_label("API key or access token").fill(served.keys["officer"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/decisions")
    yield page
    context.close()


# A host is one site whatever its port, so there the cookie comes along; `localhost` is another site.
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("media", ["application/x-www-form-urlencoded", "text/plain"])
def test_a_form_of_another_site_does_nothing(chromium, served, host, media):
    id_ = served.log(told(sealed(outcomes.refused())))[0]
    body = f"""<form method=post enctype={media} action="{served.base}/console/reviews/{id_}/take">
        <input name=csrf value={"0" * 64}></form><script>document.forms[0].submit()</script>"""
    with Elsewhere(body) as site, victim(chromium, served) as page:
        with page.expect_response("**/take") as answer:
            page.goto(f"http://{host}:{site.port}/")
        assert answer.value.status in (303, 403)
        if host == "127.0.0.1":
            assert answer.value.status == 403
            assert "gateway-console=" in answer.value.request.all_headers().get("cookie", "")
        page.goto(f"/console/decisions/{id_}")
        assert "nobody has it" in page.locator("main").inner_text()


def test_a_frame_of_another_site_shows_nothing(chromium, served):
    with (
        Elsewhere(f'<iframe src="{served.base}/console/decisions"></iframe>') as site,
        victim(chromium, served) as page,
    ):
        page.goto(f"http://127.0.0.1:{site.port}/")
        page.wait_for_load_state("load")
        frame = page.frames[1]
        assert frame.url.startswith("chrome-error:")
        page.goto("/console/decisions")
        assert page.get_by_role("heading", name="Decisions", exact=True).is_visible()


def test_a_script_of_another_site_reads_nothing(chromium, served):
    with Elsewhere("<p>elsewhere</p>") as site, victim(chromium, served) as page:
        page.goto(f"http://127.0.0.1:{site.port}/")
        script = (
            f"fetch('{served.base}/console/decisions', {{credentials: 'include'}}).then(a => a.text(), e => 'kept')"
        )
        assert page.evaluate(script) == "kept"
        assert page.evaluate("document.cookie") == ""


def test_a_page_can_not_read_its_own_cookie(walker):
    officer = walker("officer")
    assert officer.page.evaluate("document.cookie") == ""
    assert any(cookie["name"] == "gateway-console" for cookie in officer.context.cookies())
    officer.page.get_by_role("button", name="Show").click()
    officer.page.wait_for_url("**/console/decisions")
    officer.follow("Reviews")
    officer.page.go_back()
    # HTMX would keep copies of pages that it swaps, with what they show; here it keeps the last address alone
    kept = officer.page.evaluate("Object.entries({...localStorage, ...sessionStorage})")
    assert kept == [["htmx-current-path-for-history", "/console/decisions"]]
