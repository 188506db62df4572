"""Read the identity file, strictly, with every mistake of it at once."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from gateway.errors import ConfigurationError
from gateway.identity.model import IdentityFile, Issuer
from gateway.policy.model import Duration
from gateway.policy.nodes import Problems, child, items, parse, plain, read_bytes
from gateway.policy.walk import decode
from gateway.records.outcome import Caller
from gateway.records.permissions import ALL, may

_MAX_LEEWAY = 300.0  # seconds
_SECRET_ALGORITHMS = ("HS256", "HS384", "HS512")


def load_identity(file: Path, departments: Collection[str] = ()) -> tuple[tuple[Issuer, ...], str]:
    """Load the issuers that `file` trusts, and the SHA-256 of the file; `departments` are those with a policy.

    A relative `jwks_file` is beside the file. Raises ConfigurationError with every problem, each
    ``file:line: path: problem; hint``.
    """
    problems = Problems(file)
    data = read_bytes(file, problems)
    root = None if data is None else parse(data, problems)
    if data is None or root is None:
        raise ConfigurationError(*problems.lines())
    whole = decode(root, IdentityFile, "", problems)
    seen: dict[tuple[str, str], str] = {}
    for place, node in enumerate(items(child(root, "issuers"))):
        path = f"issuers[{place}]"
        _check_algorithms(node, path, problems)
        _check_keys(node, path, file, problems)
        _check_leeway(node, path, problems)
        for name in ("id", "issuer"):
            word = child(node, name)
            if isinstance(word, yaml.ScalarNode):
                first = seen.setdefault((name, word.value), path)
                if first != path:
                    problems.add(
                        word, f"{path}.{name}", f"stands twice, first at `{first}`; there is one entry for each"
                    )
        for number, rule in enumerate(items(child(node, "rules"))):
            _check_gives(child(rule, "gives"), f"{path}.rules[{number}].gives", departments, problems)
    if whole is None or len(problems):
        raise ConfigurationError(*problems.lines())
    return whole.issuers, hashlib.sha256(data).hexdigest()


def is_safe_url(url: str) -> bool:
    """Tell whether keys may be fetched from `url`: by https, or by http from this machine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_algorithms(issuer: yaml.Node, path: str, problems: Problems) -> None:
    """Say why the algorithms that are no proof of the issuer are not taken."""
    for place, node in enumerate(items(child(issuer, "algorithms"))):
        word = node.value if isinstance(node, yaml.ScalarNode) else ""
        if word.lower() == "none":
            text = "`none` is no signature: anybody could write such a token; remove it"
            problems.add(node, f"{path}.algorithms[{place}]", text)
        elif word.upper() in _SECRET_ALGORITHMS:
            text = (
                f"`{word}` is made with the secret that checks it; let the issuer sign with a private key, as in ES256"
            )
            problems.add(node, f"{path}.algorithms[{place}]", text)


def _check_keys(issuer: yaml.Node, path: str, file: Path, problems: Problems) -> None:
    url, local = child(issuer, "jwks_url"), child(issuer, "jwks_file")
    if (url is None) == (local is None):
        problems.add(issuer, path, "expected either `jwks_url` or `jwks_file`: it says where the issuer's keys are")
    if isinstance(url, yaml.ScalarNode) and not is_safe_url(str(url.value)):
        text = "keys are fetched by https, or by http from this machine; write `https://…` without user and password"
        problems.add(url, f"{path}.jwks_url", text)
    if isinstance(local, yaml.ScalarNode) and not (file.parent / str(local.value)).is_file():
        problems.add(local, f"{path}.jwks_file", "there is no such file; put it there, or correct the name")


def _check_leeway(issuer: yaml.Node, path: str, problems: Problems) -> None:
    node = child(issuer, "leeway")
    if node is None:
        return
    try:
        seconds = Duration.parse(plain(node)).seconds
    except ValueError:
        return  # told where the types were checked
    if seconds > _MAX_LEEWAY:
        problems.add(
            node, f"{path}.leeway", "clocks that differ by more than `5m` are to be mended; write at most that"
        )


def _check_gives(gives: yaml.Node | None, path: str, departments: Collection[str], problems: Problems) -> None:
    node = child(gives, "department")
    if not isinstance(node, yaml.ScalarNode):
        return
    roles = tuple(str(role.value) for role in items(child(gives, "roles")) if isinstance(role, yaml.ScalarNode))
    asks = [role for role in roles if may(Caller(key="", department="", roles=(role,)), "ask")]
    if node.value == ALL and asks:
        text = f"the role `{asks[0]}` asks models, and a department's policy decides; name the department"
        problems.add(node, f"{path}.department", text)
    if node.value != ALL and asks and departments and node.value not in departments:
        known = ", ".join(f"`{name}`" for name in sorted(departments))
        problems.add(node, f"{path}.department", f"there is no policy for `{node.value}`; there are: {known}")
