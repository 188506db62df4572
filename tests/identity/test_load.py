"""The identity file: read strictly, and every mistake told at once with its line."""

import textwrap

import pytest

from gateway.errors import ConfigurationError
from gateway.identity.load import is_safe_url, load_identity

GOOD = """
issuers:
  - id: hospital
    issuer: https://login.example/realms/hospital
    audience: https://gateway.example
    jwks_url: https://login.example/realms/hospital/certs
    person: preferred_username
    leeway: 1m
    rules:
      - {claim: groups, has: gw-radiology-officers, gives: {department: radiology, roles: [officer]}}
      - {claim: [realm_access, roles], has: auditors, gives: {department: "*", roles: [auditor]}}
"""


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "identity.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def test_a_good_file(file):
    issuers, digest = load_identity(file(GOOD), ("radiology",))
    assert [issuer.id for issuer in issuers] == ["hospital"]
    assert issuers[0].algorithms == ("RS256", "ES256", "EdDSA")
    assert issuers[0].leeway.seconds == 60
    assert issuers[0].rules[1].claim == ("realm_access", "roles")
    assert issuers[0].audiences == ("https://gateway.example",)
    assert len(digest) == 64
    assert load_identity(file(GOOD + "# a word\n"), ("radiology",))[1] != digest


MISTAKES = {
    "none": ("    algorithms: [none]\n", "algorithms[0]", "`none` is no signature"),
    "None": ("    algorithms: [ES256, None]\n", "algorithms[1]", "`none` is no signature"),
    "HS256": ("    algorithms: [HS256]\n", "algorithms[0]", "secret that checks it"),
    "no algorithm": ("    algorithms: []\n", "algorithms", "1 or more"),
    "a wide leeway": ("    leeway: 6m\n", "leeway", "at most"),
    "no duration": ("    max_age: 5\n", "max_age", "duration"),
    "an unknown key": ("    verify: false\n", "verify", "unknown key"),
    "another person": ("    person: name\n", "person", "preferred_username"),
    "http": ("    jwks_url: http://login.example/certs\n", "jwks_url", "https"),
    "http to a host like ours": ("    jwks_url: http://127.0.0.1.evil.example/certs\n", "jwks_url", "https"),
    "a password": ("    jwks_url: https://user:hunter2@login.example/certs\n", "jwks_url", "without user and password"),
    "a file": ("    jwks_url: file:///etc/passwd\n", "jwks_url", "https"),
    "two places": ("    jwks_file: keys.json\n", "issuers[0]", "either"),
    "a long id": ("    id: a-name-of-seventeen\n", "id", "expected"),
    "no rules": ("    rules: []\n", "rules", "1 or more"),
    "a role that is none": (
        "    rules: [{claim: groups, has: x, gives: {department: radiology, roles: [king]}}]\n",
        "rules[0].gives.roles[0]",
        "expected",
    ),
    "no roles": (
        "    rules: [{claim: groups, has: x, gives: {department: radiology, roles: []}}]\n",
        "rules[0].gives.roles",
        "1 or more",
    ),
    "asking for all departments": (
        '    rules: [{claim: groups, has: x, gives: {department: "*", roles: [officer, caller]}}]\n',
        "rules[0].gives.department",
        "`caller` asks models",
    ),
    "a department without policy": (
        "    rules: [{claim: groups, has: x, gives: {department: surgery, roles: [caller]}}]\n",
        "rules[0].gives.department",
        "no policy for `surgery`",
    ),
}


def with_line(line):
    """The good file with a line more, or in place of the one with the same key."""
    key = line.split(":")[0].strip()
    kept = GOOD.split("    rules:\n")[0] if key == "rules" else GOOD
    lines = [one for one in kept.splitlines(keepends=True) if one.strip("- ").split(":")[0].strip() != key]
    if key == "id":
        return "".join(lines).replace("    issuer: ", "  - id: a-name-of-seventeen\n    issuer: ")
    place = next(n for n, one in enumerate(lines) if "audience" in one)
    return "".join([*lines[:place], line, *lines[place:]])


@pytest.mark.parametrize(("line", "path", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_its_place(file, line, path, said):
    written = file(with_line(line))
    with pytest.raises(ConfigurationError) as caught:
        load_identity(written, ("radiology",))
    told = [
        problem for problem in caught.value.problems if f": issuers[0].{path}: " in problem or f": {path}: " in problem
    ]
    assert told and any(said in problem for problem in told), caught.value.problems
    assert all(problem.startswith(f"{written}:") for problem in caught.value.problems)
    assert "hunter2" not in str(caught.value)


def test_every_mistake_is_told_at_once(file):
    text = """
    issuers:
      - id: a
        issuer: https://a.example
        audience: x
        jwks_url: http://a.example
        algorithms: [none, HS512]
        leeway: 1h
        rules: [{claim: g, has: x, gives: {department: "*", roles: [caller]}}]
      - {id: a, issuer: https://a.example, audience: x, rules: []}
    """
    with pytest.raises(ConfigurationError) as caught:
        load_identity(file(text), ("radiology",))
    told = str(caught.value)
    for word in ("jwks_url", "`none`", "`HS512`", "leeway", "asks models", "stands twice", "either", "rules"):
        assert word in told


@pytest.mark.parametrize("text", ["", "[]", "issuers: []", "issuers: x", "issuers:\n  - x", "a: &a 1\nb: *a", "{"])
def test_a_file_that_is_none_is_told_and_not_guessed_at(file, text):
    with pytest.raises(ConfigurationError):
        load_identity(file(text))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match=r"identity\.yaml"):
        load_identity(tmp_path / "identity.yaml")
    path = tmp_path / "identity.yaml"
    path.write_text(
        with_line("    jwks_file: keys.json\n").replace(
            "    jwks_url: https://login.example/realms/hospital/certs\n", ""
        )
    )
    with pytest.raises(ConfigurationError, match="no such file"):
        load_identity(path, ("radiology",))
    (tmp_path / "keys.json").write_text("{}")
    assert load_identity(path, ("radiology",))[0][0].jwks_file == "keys.json"


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://login.example/certs", True),
        ("http://127.0.0.1:8000/certs", True),
        ("http://[::1]:8000/certs", True),
        ("http://localhost/certs", True),
        ("http://login.example/certs", False),
        ("http://localhost.evil.example/certs", False),
        ("http://127.0.0.1@evil.example/certs", False),
        ("http://0x7f000001/certs", False),
        ("ftp://127.0.0.1/certs", False),
        ("https://", False),
        ("https://x:port/", False),
        ("", False),
    ],
)
def test_where_keys_may_come_from(url, safe):
    assert is_safe_url(url) is safe
