"""What each role may do. Least privilege: no role holds both the keys and the content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from gateway.errors import NotPermitted
from gateway.records.outcome import Caller

Permission = Literal[
    "ask", "batch", "read", "search", "reveal", "export", "verify", "review", "hold", "erase", "figures", "keys",
    "break-glass",
]  # fmt: skip
"""What a caller may do: ask a model; push batches of requests; read one decision; search them; see sealed content; take
records away; check the log; judge decisions; place and release legal holds; erase sealed content; see figures; manage
keys; break the glass."""

Role = Literal["caller", "operator", "platform", "officer", "auditor", "admin"]

ROLES: tuple[Role, ...] = get_args(Role)
"""The roles that a key may have."""

ALL = "*"
"""Stands for every department, for roles that look after more than one; no model can be asked with it."""

_MAY: Mapping[Role, frozenset[Permission]] = {
    "caller": frozenset({"ask", "batch", "break-glass"}),
    "operator": frozenset({"ask", "batch", "verify", "figures", "break-glass"}),
    "platform": frozenset({"verify", "figures"}),
    "officer": frozenset({"read", "search", "reveal", "export", "verify", "review", "hold", "erase", "figures"}),
    "auditor": frozenset({"read", "search", "export", "verify", "figures"}),
    "admin": frozenset({"ask", "batch", "read", "search", "verify", "figures", "keys"}),
}

LENT: frozenset[Permission] = frozenset({"read", "search", "reveal"})
"""What break-glass lends until it expires, in one department."""


def may(caller: Caller, permission: Permission) -> bool:
    """Tell whether `caller` has `permission`, by a role or by break-glass, and by the key's scopes where it has any."""
    held = any(permission in _MAY.get(role, frozenset()) for role in caller.roles)  # type: ignore[call-overload] # a role of a newer version is none
    lent = caller.grant is not None and permission in LENT
    return (held or lent) and (not caller.scopes or permission in caller.scopes)


def covers(caller: Caller, department: str) -> bool:
    """Tell whether `caller` may see what belongs to `department`."""
    return caller.department in (department, ALL) or "admin" in caller.roles


def require(caller: Caller, permission: Permission) -> None:
    """Raise NotPermitted where `caller` does not have `permission`."""
    if may(caller, permission):
        return
    has = ", ".join(sorted(caller.roles)) or "none"
    narrowed = f" narrowed to {', '.join(caller.scopes)}" if caller.scopes else ""
    wanted = " or ".join(role for role in ROLES if permission in _MAY[role])
    raise NotPermitted(
        f"to {permission} needs a key with the role {wanted}, and this key's roles are: {has}{narrowed}; "
        "ask the gateway's operator for another key",
        code="insufficient_permissions",
    )
