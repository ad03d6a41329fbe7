# style: language
# about: functions and classes that need each other, a tree that refers to its parents
# input: 7
# input: 0
# %%
def is_even(n):
    return True if n == 0 else is_odd(n - 1)

def is_odd(n):
    return False if n == 0 else is_even(n - 1)
# %%
class Node:
    def __init__(self, value, parent=None):
        self.value, self.parent, self.children = value, parent, []
        if parent is not None:
            parent.children.append(self)

    def depth(self):
        return 0 if self.parent is None else 1 + self.parent.depth()

    def total(self):
        return self.value + sum(child.total() for child in self.children)
# %%
tree = Node(1)
left, right = Node(2, tree), Node(3, tree)
leaf = Node(4, left)
# %%
class Even:
    def next(self):
        return Odd()

class Odd:
    def next(self):
        return Even()
# %%
endless = [1, 2]
endless.append(endless)
# %%
%%serve_handler parity --sample 7
def predict(batch):
    return [[is_even(n), is_odd(n), tree.total(), leaf.depth(), type(Even().next().next()).__name__, leaf.parent is left, endless[2][2][0]] for n in batch]
