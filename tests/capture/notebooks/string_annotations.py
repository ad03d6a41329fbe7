# style: language
# about: annotations as text, forward references, get_type_hints and a TypedDict read when a request comes
# undetected: Options, UserId
# input: {"name": "a", "size": 3}
# input: {"name": "b"}
# %%
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, get_type_hints
# %%
UserId = NewType("UserId", int)
Mode = Literal["fast", "slow"]

class Options(TypedDict, total=False):
    name: str
    size: "Optional[int]"
    mode: Mode
# %%
@dataclass
class Item:
    name: "str"
    parent: "Optional[Item]" = None
    weight: "Annotated[float, 'kg']" = 1.5
# %%
def build(options: "Options", user: "UserId" = UserId(7)) -> "Item":
    return Item(options["name"], Item("root"), options.get("size") or 0)
# %%
def coerce(kind: type, value: Any) -> Any:
    hints = get_type_hints(kind)
    return {key: hints[key].__name__ for key in value if hints.get(key) in (int, str, float)}
# %%
%%serve_handler items --sample {"name": "a", "size": 3}
def predict(batch: "list[Options]") -> "list[dict]":
    return [{"name": (i := build(o)).name, "parent": i.parent.name, "w": i.weight, "kinds": coerce(Item, {"name": 1, "weight": 2}),
             "fields": [f.name for f in fields(Item)], "mode": list(Mode.__args__)} for o in batch]
