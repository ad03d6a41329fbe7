# style: language
# about: names bound again: what was built with the older function, class and constant keeps them
# input: 2.0
# input: 7.5
# %%
RATE = 0.1

def tax(x):
    return x * RATE

def with_tax(function):
    def inner(x):
        return x + function(x)
    return inner
# %%
gross = with_tax(tax)
# %%
def tax(x):
    return x * 0.5

class Base:
    kind = "old"

    def describe(self):
        return self.kind

class Child(Base):
    def label(self):
        return "child of " + self.describe()
# %%
class Base:
    kind = "new"

    def describe(self):
        return self.kind.upper()
# %%
RATE = 0.2
child = Child()
# %%
%%serve_handler prices --sample 2.0
def predict(batch):
    return [{"gross": gross(x), "tax": tax(x), "who": child.label(), "base": Base().describe()} for x in batch]
