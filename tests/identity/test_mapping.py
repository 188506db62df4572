"""What claims give: pure rules, tried with tables and with made-up claims."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity.kit import claims, issuer

from gateway.errors import NotAuthenticated, NotPermitted
from gateway.identity.mapping import caller_of, key_of
from gateway.identity.model import Gives, Rule


def rule(claim, has, department, *roles):
    return Rule(claim=claim, has=has, gives=Gives(department=department, roles=roles))


@pytest.mark.parametrize(
    ("claim", "has", "given_claims", "matches"),
    [
        ("groups", "a", {"groups": ["b", "a"]}, True),
        ("groups", "a", {"groups": ["ab"]}, False),
        ("groups", "a", {"groups": "a"}, True),
        ("groups", "a", {"groups": "a b"}, False),
        ("groups", "a", {"groups": {"a": True}}, False),
        ("groups", "1", {"groups": [1]}, False),
        ("groups", "True", {"groups": True}, False),
        ("scope", "ask", {"scope": "openid ask"}, True),
        ("scope", "ask", {"scope": "openid asks"}, False),
        ("scp", "ask", {"scp": ["ask"]}, True),
        (("realm_access", "roles"), "a", {"realm_access": {"roles": ["a"]}}, True),
        (("realm_access", "roles"), "a", {"realm_access": ["a"]}, False),
        (("realm_access", "roles"), "a", {"realm_access.roles": ["a"]}, False),
        ("https://x.example/roles", "a", {"https://x.example/roles": ["a"]}, True),
        ("realm_access.roles", "a", {"realm_access": {"roles": ["a"]}}, False),
    ],
)
def test_what_a_rule_matches(claim, has, given_claims, matches):
    entry = issuer(rules=(rule(claim, has, "radiology", "caller"),))
    whole = claims(groups=None) | given_claims
    if matches:
        assert caller_of(whole, entry).roles == ("caller",)
    else:
        with pytest.raises(NotPermitted):
            caller_of(whole, entry)


def test_the_first_match_gives_the_department_and_roles_never_cross_departments():
    entry = issuer(
        rules=(
            rule("groups", "rad", "radiology", "caller"),
            rule("groups", "path-boss", "pathology", "officer"),
            rule("groups", "rad-boss", "radiology", "officer", "caller"),
        )
    )
    both = caller_of(claims(groups=["path-boss", "rad"]), entry)
    assert (both.department, both.roles) == ("radiology", ("caller",))
    boss = caller_of(claims(groups=["rad-boss", "rad"]), entry)
    assert (boss.department, boss.roles) == ("radiology", ("caller", "officer"))
    path = caller_of(claims(groups=["path-boss", "rad-boss"]), entry)
    assert (path.department, path.roles) == ("pathology", ("officer",))


def test_an_application_with_a_long_name_keeps_a_name_of_its_own():
    first = caller_of(claims(azp="a" * 64 + "1"), issuer()).application
    second = caller_of(claims(azp="a" * 64 + "2"), issuer()).application
    assert first != second
    assert len(first) == len(second) == 64
    assert caller_of(claims(azp=None), issuer()).application is None


@given(st.text(min_size=1, max_size=255), st.text(min_size=1, max_size=255))
def test_a_key_is_short_plain_and_one_persons(one, other):
    keys = [key_of("hospital", subject) for subject in (one, other)]
    assert all(re.fullmatch(r"oidc:hospital:[~A-Za-z0-9._@+-]+", key) and len(key) <= 64 for key in keys)
    assert (keys[0] == keys[1]) == (one == other)


def test_a_subject_can_not_pass_for_the_digest_of_another():
    long = key_of("hospital", "x" * 200)
    assert key_of("hospital", long.removeprefix("oidc:hospital:")) != long


_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["sub", "preferred_username", "azp", "groups", "client_id"]), _value))
def test_whatever_the_claims_are_roles_come_from_rules(made_up):
    try:
        caller = caller_of(made_up, issuer())
    except (NotAuthenticated, NotPermitted):
        return
    groups = made_up["groups"]
    assert "gw-radiology" in str(groups)
    assert set(caller.roles) <= {"caller", "officer"}
