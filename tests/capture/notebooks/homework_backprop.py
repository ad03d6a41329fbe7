# style: homework
# about: a neural network in numpy with its own autograd: scalars with closures as backward functions
# undetected: random
# input: [0.5, -0.5]
# input: [1.0, 1.0]
# unreached: <lambda>, Value.backward, Value.backward.<locals>.visit, Value.__add__.<locals>._backward, Value.__mul__.<locals>._backward, Value.tanh.<locals>._backward, Value.__rmul__, MLP.parameters, Layer.parameters, Neuron.parameters, MLP.parameters.<locals>.<listcomp>, Layer.parameters.<locals>.<listcomp>, Value.__repr__
# %%
import math
import random
# %%
random.seed(1337)
# %%
class Value:
    """A number that remembers how it was made."""

    def __init__(self, data, children=(), op=""):
        self.data, self.grad = data, 0.0
        self._prev, self._op = set(children), op
        self._backward = lambda: None

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data + other.data, (self, other), "+")

        def _backward():
            self.grad += out.grad
            other.grad += out.grad
        out._backward = _backward
        return out

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data * other.data, (self, other), "*")

        def _backward():
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad
        out._backward = _backward
        return out

    def tanh(self):
        t = math.tanh(self.data)
        out = Value(t, (self,), "tanh")

        def _backward():
            self.grad += (1 - t * t) * out.grad
        out._backward = _backward
        return out

    def backward(self):
        order, seen = [], set()

        def visit(v):
            if v not in seen:
                seen.add(v)
                for child in v._prev:
                    visit(child)
                order.append(v)
        visit(self)
        self.grad = 1.0
        for v in reversed(order):
            v._backward()

    __radd__ = __add__

    def __rmul__(self, other):
        return self * other

    def __repr__(self):
        return f"Value({self.data:.4f})"
# %%
a, b = Value(2.0), Value(-3.0)
c = (a * b + 1).tanh()
c.backward()
a.grad, b.grad
# %%
class Neuron:
    def __init__(self, n):
        self.w = [Value(random.uniform(-1, 1)) for _ in range(n)]
        self.b = Value(0.0)

    def __call__(self, x):
        return sum((w * v for w, v in zip(self.w, x)), self.b).tanh()

    def parameters(self):
        return self.w + [self.b]
# %%
class Layer:
    def __init__(self, nin, nout):
        self.neurons = [Neuron(nin) for _ in range(nout)]

    def __call__(self, x):
        out = [n(x) for n in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self):
        return [p for n in self.neurons for p in n.parameters()]
# %%
class MLP:
    def __init__(self, *sizes):
        self.layers = [Layer(a, b) for a, b in zip(sizes, sizes[1:])]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self):
        return [p for layer in self.layers for p in layer.parameters()]
# %%
net = MLP(2, 3, 1)
len(net.parameters())
# %%
xs = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]
ys = [-1.0, 1.0, 1.0, -1.0]
# %%
def total_loss():
    errors = [net(x) + (-y) for x, y in zip(xs, ys)]
    return sum((e * e for e in errors), Value(0.0))
# %%
total_loss()
# %%
for step in range(15):
    loss = total_loss()
    for p in net.parameters():
        p.grad = 0.0
    loss.backward()
    for p in net.parameters():
        p.data -= 0.1 * p.grad
# %%
loss
# %%
final = loss.data
# %%
[net(x).data for x in xs]
# %%
def detach(net):
    return [[([w.data for w in n.w], n.b.data) for n in layer.neurons] for layer in net.layers]
# %%
weights = detach(net)
# %%
def fast(x):
    for layer in weights:
        x = [math.tanh(sum(w * v for w, v in zip(ws, x)) + b) for ws, b in layer]
    return x[0]
# %%
%%serve_handler xor --sample [0.5, -0.5]
def predict(batch):
    return [{"slow": net(x).data, "fast": fast(x), "loss": round(final, 6)} for x in batch]
