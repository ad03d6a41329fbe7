# style: language
# about: imports inside functions and methods, of modules that the notebook never imports by itself
# input: "a,b;c"
# input: "x"
# %%
def split(text):
    import re as regex
    from csv import reader

    return [cell for row in reader(regex.split(";", text)) for cell in row]
# %%
def digest(text):
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:8]
# %%
class Shelf:
    def __init__(self):
        import collections

        self.kinds = collections.Counter()

    def add(self, items):
        from bisect import insort

        ordered = []
        for item in items:
            insort(ordered, item)
            self.kinds[item] += 1
        return ordered
# %%
shelf = Shelf()
# %%
%%serve_handler split --sample "a,b;c"
def predict(batch):
    return [{"cells": split(t), "digest": digest(t), "kinds": shelf.add(split(t)), "seen": shelf.kinds.total()} for t in batch]
