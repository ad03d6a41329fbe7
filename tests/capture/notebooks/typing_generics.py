# style: language
# unreached: Comparable.__lt__
# about: Protocol, Generic with bound TypeVar, ParamSpec, Concatenate, overload, Annotated, TypedDict, NewType, Self, cast
# input: [1, 2]
# input: [5, -1]
# %%
from typing import *
T = TypeVar("T", bound="Comparable")
P = ParamSpec("P")
R = TypeVar("R", covariant=True)
# %%
@runtime_checkable
class Comparable(Protocol):
    def __lt__(self, other: Any) -> bool: ...
class Box(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item
    def best(self, other: "Box[T]") -> Self:
        return type(self)(max(self.item, other.item))
# %%
def logged(f: Callable[Concatenate[int, P], R]) -> Callable[P, R]:
    def inner(*args: P.args, **kwargs: P.kwargs) -> R:
        return f(10, *args, **kwargs)
    return inner
@logged
def add(base: int, x: int, *, y: int = 2) -> int:
    return base + x + y
# %%
class Movie(TypedDict, total=False):
    name: Required[str]
    year: int
UserId = NewType("UserId", int)
Pair: TypeAlias = tuple[T, T]
@overload
def twice(x: int) -> int: ...
@overload
def twice(x: str) -> str: ...
def twice(x):
    return x * 2
Small = Annotated[int, "small"]
# %%
%%serve_handler generics --sample [1, 2]
def predict(batch):
    out = []
    for a, b in batch:
        movie: Movie = Movie(name="x", year=cast(int, a))
        out.append([Box[int](a).best(Box(b)).item, add(a, y=b), isinstance(a, Comparable), UserId(a), twice("n"), movie, str(Small)])
    return out
