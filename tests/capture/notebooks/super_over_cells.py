# style: language
# about: cooperative super() through mixins over cells, class methods that make instances, a base redefined after its children
# input: [3, 4]
# input: [1, -2]
# undetected: Big.factor
# %%
class Shape:
    made = 0
    def __init__(self, **rest):
        super().__init__(**rest)
        type(self).made += 1
    def describe(self):
        return [type(self).__name__]
    @classmethod
    def of(cls, *sides):
        return cls(sides=sides)
# %%
class Named:
    def __init__(self, *, name="?", **rest):
        self.name = name
        super().__init__(**rest)
    def describe(self):
        return [f"named {self.name}", *super().describe()]
class Sided:
    def __init__(self, *, sides=(), **rest):
        self.sides = sides
        super().__init__(**rest)
    def area(self):
        area = 1
        for side in self.sides:
            area *= side
        return area
    def describe(self):
        return [f"sides {self.sides}", *super().describe()]
# %%
class Box(Named, Sided, Shape):
    def describe(self):
        return ["box", *super().describe()]
    def __init_subclass__(cls, factor=1, **kw):
        super().__init_subclass__(**kw)
        cls.factor = factor
class Big(Box, factor=10):
    def area(self):
        return super().area() * self.factor
# %%
class Shape:
    def describe(self):
        return ["another"]
# %%
%%serve_handler boxes --sample [3, 4]
def predict(batch):
    return [[Big.of(*sides).describe(), Big.of(*sides).area(), Box.of(*sides).area()] for sides in batch]
