# style: language
# about: partial, lru_cache, cache, wraps, singledispatch, cached_property, total_ordering, reduce
# insensitive: clamp
# input: 6
# input: "seven"
# input: [1, 2]
# %%
import functools
import operator
from functools import cache, cached_property, lru_cache, partial, reduce, singledispatch, total_ordering, wraps
# %%
@cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

fib(12)
# %%
@lru_cache(maxsize=8)
def weight(word):
    return sum(map(ord, word)) % 97
# %%
@singledispatch
def size(value):
    return -1

@size.register
def _(value: int):
    return value

@size.register(str)
def size_of_text(value):
    return weight(value)

@size.register(list)
def _(value):
    return sum(size(each) for each in value)
# %%
def logged(prefix):
    def decorate(function):
        @wraps(function)
        def inner(*args, **kwargs):
            return {prefix: function(*args, **kwargs), "of": function.__name__}
        return inner
    return decorate
# %%
power = partial(pow, 2)
clamp = partial(min, 50)
times = partial(operator.mul, 3)
product = partial(reduce, operator.mul)

@total_ordering
class Box:
    def __init__(self, n):
        self.n = n

    def __eq__(self, other):
        return self.n == other.n

    def __lt__(self, other):
        return self.n < other.n

    @cached_property
    def double(self):
        return self.n * 2

box = Box(3)
# %%
@logged("answer")
def answer(value):
    n = size(value)
    return [n, fib(clamp(abs(n))) if n < 20 else 0, power(3), times(2), product([1, 2, 3]), box.double, Box(n) >= box, box == Box(3), size(2.5)]
# %%
%%serve_handler sizes --sample 6
def predict(batch):
    return [answer(value) for value in batch]
