"""Who becomes what in which app, as `membership.toml` says."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROLES = ("member", "admin")
KEYS = {"app", "role", "domains", "addresses", "tenant"}
TABLE = Path(__file__).parent / "membership.toml"


def claims(user: Any) -> dict[str, Any] | None:
    """The custom claims of a user with what the table gives them, or None if it gives them nothing new.

    An address that is not verified gives nothing: anybody can sign up with anybody's.
    """
    address = (user.email or "").lower()
    if not user.email_verified or address.count("@") != 1:
        return None
    had: Mapping[str, Any] = user.custom_claims or {}
    apps = had.get("apps") if isinstance(had.get("apps"), Mapping) else {}
    fitting = [(entry["app"], entry["role"]) for entry in table() if fits(entry, address, user.tenant_id or "")]
    given = dict(sorted(fitting, key=lambda pair: pair[1] == "admin"))  # the last one stays
    new = {app: role for app, role in given.items() if apps.get(app) not in (role, "admin")}
    return {**had, "apps": {**apps, **new}} if new else None


def fits(entry: Mapping[str, Any], address: str, tenant: str) -> bool:
    listed = address in map(str.lower, entry.get("addresses", ()))
    domain = address.partition("@")[2] in map(str.lower, entry.get("domains", ()))
    return entry.get("tenant", "") == tenant and (listed or domain)


@cache
def table() -> tuple[Mapping[str, Any], ...]:
    """Read the table once; raises `ValueError` for one that does not hold."""
    entries = tomllib.loads(TABLE.read_text(encoding="utf-8")).get("give", [])
    for entry in entries:
        if not entry.get("app") or entry.get("role") not in ROLES or set(entry) - KEYS:
            raise ValueError(f"{TABLE.name}: each [[give]] has `app`, `role` (member or admin), and of {sorted(KEYS)}.")
    return tuple(entries)
