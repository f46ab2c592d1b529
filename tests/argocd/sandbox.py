"""Argo CD's Lua: what a script of a resource customization has at hand, and what Argo CD makes of its answer.

After ``util/lua/lua.go`` and ``util/lua/oslib_safe.go`` of Argo CD 3.6. Its engine speaks Lua 5.1. A script in
argocd-cm has the base, package and table libraries, and of ``os`` (by ``require``) time and date alone; a health check
that is built into Argo CD has more. Here all scripts have the less.
"""

from datetime import UTC, datetime
from typing import Any

from lupa.lua51 import LuaRuntime, lua_type

STATUSES = {"Healthy", "Progressing", "Suspended", "Degraded", "Missing", "Unknown"}

# string, math, io, debug and coroutine are not opened there; gcinfo and lupa's own `python` don't exist.
# Without the string library strings have no methods either.
_LEFT_OUT = """
local none = {"string", "math", "io", "os", "debug", "coroutine", "python", "gcinfo"}
getmetatable("").__index = nil
for _, name in ipairs(none) do
  _G[name] = nil
  package.loaded[name] = nil
end
package.path, package.cpath = "", ""
"""
_GO_LAYOUTS = {"%X": "%H:%M:%S"}  # the same in C only in some locales


class LuaError(Exception):
    """The script can't be run, or its answer is nothing that Argo CD takes."""


def run(script: str, obj: dict[str, Any], *, now: datetime | None = None) -> Any:
    """What the script returns for ``obj``, as JSON has it.

    Args:
        now: aware; the time that ``os`` tells.
    """
    lua = LuaRuntime(register_eval=False, register_builtins=False)
    lua.execute(_LEFT_OUT)
    moment = now or datetime.now(UTC)

    def date(layout: str = "%c", seconds: float | None = None) -> str:
        told = moment if seconds is None else datetime.fromtimestamp(seconds, UTC)
        told = told.astimezone(UTC) if layout.startswith("!") else told.astimezone()
        for there, here in _GO_LAYOUTS.items():
            layout = layout.replace(there, here)
        return told.strftime(layout.lstrip("!"))

    safe_os = lua.table_from({"time": lambda: int(moment.timestamp()), "date": date})
    lua.execute("local os = ...; package.preload.os = function() return os end", safe_os)
    lua.globals().obj = lua.table_from(obj, recursive=True)
    try:
        answer = lua.execute(script)
    except Exception as error:
        raise LuaError(str(error)) from error
    return _json(answer)


def health(script: str, obj: dict[str, Any]) -> dict[str, str]:
    """Status and message.

    Raises:
        LuaError: Argo CD would show Unknown.
    """
    answer = run(script, obj)
    if not isinstance(answer, dict) or answer.get("status") not in STATUSES:
        raise LuaError(f"not a health status: {answer}")
    return answer


def available_actions(script: str, obj: dict[str, Any]) -> list[dict[str, Any]]:
    """Of a ``discovery.lua``, each with all fields that Argo CD compares."""
    answer = run(script, obj)
    if not isinstance(answer, dict):
        raise LuaError(f"not a table of actions: {answer}")
    return [action(name=name, **fields) for name, fields in answer.items()]


def action(*, name: str, disabled: bool = False, iconClass: str = "", displayName: str = "") -> dict[str, Any]:  # noqa: N803
    """One of Argo CD's ResourceActions; no other field is known."""
    return {"name": name, "disabled": disabled, "iconClass": iconClass, "displayName": displayName}


def act(script: str, obj: dict[str, Any], *, now: datetime | None = None) -> dict[str, Any]:
    """The object that an ``action.lua`` makes of this one."""
    answer = run(script, obj, now=now)
    if not isinstance(answer, dict):
        raise LuaError(f"not an object: {answer}")
    made: dict[str, Any] = _cleaned(answer, obj)
    return made


def _json(value: Any) -> Any:
    """As gopher-json has it: an empty table is an empty list, and a number may be a float."""
    if lua_type(value) != "table":
        return value
    keys = list(value)
    if all(isinstance(key, int) for key in keys):
        return [_json(value[key]) for key in keys]
    return {key: _json(value[key]) for key in keys}


def _cleaned(new: Any, old: Any) -> Any:
    """What Argo CD does against an empty object having become an empty list."""
    if isinstance(new, dict) and isinstance(old, dict):
        return {key: _cleaned(value, old.get(key)) for key, value in new.items()}
    if isinstance(new, list) and isinstance(old, list):
        return [_cleaned(*pair) for pair in zip(new, old, strict=False)] + new[len(old) :]
    return {} if new == [] and isinstance(old, dict) else new
