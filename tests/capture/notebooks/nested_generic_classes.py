# style: language
# about: classes inside classes, generics with type variables, a class made in a function
# input: [5, 3, 8]
# input: []
# unreached: Stack.pop
# %%
from typing import Callable, Generic, Iterator, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=int)
# %%
class Stack(Generic[T]):
    class Empty(Exception):
        pass

    class Node:
        __slots__ = ("value", "below")

        def __init__(self, value, below):
            self.value = value
            self.below = below

    def __init__(self) -> None:
        self.top: "Stack.Node | None" = None

    def push(self, value: T) -> "Stack[T]":
        self.top = Stack.Node(value, self.top)
        return self

    def pop(self) -> T:
        node, self.top = self.top, self.top.below
        return node.value

    def __iter__(self) -> Iterator[T]:
        node = self.top
        while node is not None:
            yield node.value
            node = node.below

    def peek(self) -> T:
        if self.top is None:
            raise self.Empty("nothing there")
        return self.top.value
# %%
def make_pair(kind: Callable[..., T]):
    class Pair(Generic[K]):
        def __init__(self, left: K, right: K) -> None:
            self.left, self.right = kind(left), kind(right)

        def both(self):
            return [self.left, self.right]
    return Pair

TextPair = make_pair(str)
# %%
%%serve_handler stack --sample [5, 3, 8]
def predict(batch):
    answers = []
    for values in batch:
        stack: Stack[int] = Stack()
        for value in values:
            stack.push(value)
        try:
            top = stack.peek()
        except Stack.Empty as empty:
            top = str(empty)
        answers.append({"all": list(stack), "top": top, "pair": TextPair(len(values), 1).both()})
    return answers
