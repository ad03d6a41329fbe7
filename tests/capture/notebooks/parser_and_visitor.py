# style: language
# about: singledispatchmethod, visitors by getattr, ClassVar, Final, kw-only dataclass fields, __class_getitem__, __set_name__ in a base
# undetected: Node.fields
# insensitive: LIMIT, node
# input: "sum"
# input: "text"
# %%
from dataclasses import dataclass, field
from functools import cached_property, partialmethod, singledispatchmethod
from typing import ClassVar, Final

LIMIT: Final = 3
# %%
class Field:
    def __set_name__(self, owner, name):
        owner.fields = [*getattr(owner, "fields", []), name]

    def __class_getitem__(cls, item):
        return (cls.__name__, item)
# %%
class Node:
    kind: ClassVar[str] = "node"
    left = Field()
    right = Field()

    def __init__(self, value):
        self.value = value

    @cached_property
    def size(self):
        return len(str(self.value))
# %%
class Show:
    @singledispatchmethod
    def show(self, value):
        return f"? {value}"

    @show.register
    def _(self, value: int):
        return f"int {value}"

    @show.register(list)
    def _(self, value):
        return [self.show(v) for v in value]

    def visit(self, name, times=1):
        return getattr(self, f"visit_{name}", self.other)() * times

    def visit_sum(self):
        return "S"

    def other(self):
        return "O"

    twice = partialmethod(visit, times=2)
# %%
node = Node(12345)
show = Show()
# %%
%%serve_handler visit --sample "sum"
def predict(batch):
    return [[show.visit(n), show.twice(n), show.show([1, "a", [2]])[:LIMIT], Node.fields, node.size, list(Field["x"]), node.kind] for n in batch]
