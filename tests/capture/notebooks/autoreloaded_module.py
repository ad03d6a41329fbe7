# style: modules
# about: %autoreload 2: a module edited between cells is loaded anew, instances of its old class in use
# input: 2
# input: 5
# %%
%load_ext autoreload
%autoreload 2
# %%
%%writefile shapes.py
class Square:
    def __init__(self, a):
        self.a = a

    def area(self):
        return self.a
# %%
import shapes
square = shapes.Square(4)
square.area()
# %%
import os, time
text = open("shapes.py").read().replace("return self.a\n", "return self.a**2\n")
open("shapes.py", "w").write(text)
os.utime("shapes.py", (time.time() + 5, time.time() + 5))
# %%
square.area()
# %%
%%serve_handler squares --sample 2
def predict(batch):
    return [[square.area(), shapes.Square(x).area()] for x in batch]
