"""Runs the Lua that we give to Argo CD as Argo CD runs it (util/lua/lua.go): Lua 5.1 with base, table, os.date and os.time.

An action's answer goes the way it goes there: to JSON, its empty tables mended, and from there into a merge patch.
"""

from pathlib import Path
from typing import Any

import yaml
from lupa.lua51 import LuaRuntime, lua_type

FOLDER = Path(__file__).parents[2] / "examples" / "gitops" / "argocd" / "customizations"
HEALTH = (FOLDER / "health.lua").read_text(encoding="utf-8")
ACTIONS = yaml.safe_load((FOLDER / "actions.yaml").read_text(encoding="utf-8"))
_KEPT = {
    *("_G", "_VERSION", "assert", "error", "getmetatable", "ipairs", "next", "pairs", "pcall", "rawequal", "rawget"),
    *("rawset", "require", "select", "setmetatable", "tonumber", "tostring", "type", "unpack", "table", "os"),
}  # fmt: skip

Body = dict[str, Any]


def health(body: Body) -> tuple[str, str]:
    """(status, message)"""
    answer = run(HEALTH, body)
    return answer["status"], answer["message"]


def actions(body: Body) -> dict[str, dict[str, Any]]:
    """What Argo's menu shows, by name."""
    found: dict[str, dict[str, Any]] = run(ACTIONS["discovery.lua"], body)
    return found


def act(name: str, body: Body, **parameters: str) -> Body:
    """The merge patch that Argo would send to the API server."""
    definition = next(one for one in ACTIONS["definitions"] if one["name"] == name)
    changed = _mended(run(definition["action.lua"], body, parameters), body)
    patch = _merge_patch(body, changed)
    assert isinstance(patch, dict)
    return patch


def run(script: str, body: Body, parameters: dict[str, str] | None = None) -> Any:
    lua = LuaRuntime(register_eval=False, register_builtins=False, unpack_returned_tuples=True)
    scope = lua.globals()
    for name in list(scope.keys()):
        if name not in _KEPT:
            scope[name] = None
    scope.os = lua.table_from({name: scope.os[name] for name in ("date", "time")})
    lua.execute("local safe = os; require = function(name) return name == 'os' and safe or error(name) end")
    scope.obj = _as_lua(lua, body)
    scope.actionParams = _as_lua(lua, parameters or {})
    return _as_python(lua.execute(script))


def _as_lua(lua: LuaRuntime, value: Any) -> Any:
    if isinstance(value, dict):
        return lua.table_from({key: _as_lua(lua, item) for key, item in value.items()})
    if isinstance(value, list):
        return lua.table_from([_as_lua(lua, item) for item in value])
    return value


def _as_python(value: Any) -> Any:
    """As gopher-json writes it: a table with an entry 1 is an array, and so is an empty one."""
    if lua_type(value) != "table":
        return int(value) if isinstance(value, float) and value.is_integer() else value
    items = {key: _as_python(item) for key, item in value.items()}
    if not items or 1 in items:
        return [items[number] for number in sorted(items)]
    return items


def _mended(new: Any, old: Any) -> Any:
    """Argo's cleanReturnedObj: what was an empty map before is one again."""
    if new == [] and isinstance(old, dict):
        return {}
    if isinstance(new, dict) and isinstance(old, dict):
        return {key: _mended(item, old.get(key)) for key, item in new.items()}
    if isinstance(new, list) and isinstance(old, list):
        return [_mended(item, old[i] if i < len(old) else None) for i, item in enumerate(new)]
    return new


def _merge_patch(old: Any, new: Any) -> Any:
    """RFC 7386, as jsonpatch.CreateMergePatch makes it."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    changed = {key: _merge_patch(old.get(key), item) for key, item in new.items() if old.get(key) != item}
    return changed | dict.fromkeys(old.keys() - new.keys())
