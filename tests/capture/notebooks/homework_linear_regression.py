# style: homework
# about: gradient descent by hand with asserted exercises, student and reference solutions of the same names
# input: [1.0, 2.0]
# input: [-1.0, 0.5]
# unreached: LinearRegression.fit, gradient, loss
# %%
import numpy as np
# %%
np.random.seed(231)
N, D = 50, 2
# %%
X = np.random.randn(N, D)
true_w = np.array([2.0, -3.0])
y = X @ true_w + 1.5 + 0.1 * np.random.randn(N)
# %%
# Exercise 1: implement the loss
def loss(w, b, X, y):
    raise NotImplementedError
# %% fails
assert loss(np.zeros(2), 0.0, X, y) > 0
# %%
def loss(w, b, X, y):
    ### BEGIN SOLUTION
    residual = X @ w + b - y
    return 0.5 * np.mean(residual**2)
    ### END SOLUTION
# %%
assert loss(true_w, 1.5, X, y) < 0.1
print("ok")
# %%
# Exercise 2: the gradient
def gradient(w, b, X, y):
    residual = X @ w + b - y
    return X.T @ residual / len(y), residual.mean()
# %%
def numeric(f, x, h=1e-5):
    g = np.zeros_like(x)
    for i in range(x.size):
        old = x[i]
        x[i] = old + h
        up = f(x)
        x[i] = old - h
        g[i] = (up - f(x)) / (2 * h)
        x[i] = old
    return g
# %%
w0 = np.array([0.3, -0.3])
np.abs(numeric(lambda w: loss(w, 0.0, X, y), w0) - gradient(w0, 0.0, X, y)[0]).max()
# %%
class LinearRegression:
    def __init__(self, lr=0.1):
        self.lr = lr
        self.history = []

    def fit(self, X, y, steps=100):
        self.w, self.b = np.zeros(X.shape[1]), 0.0
        for _ in range(steps):
            dw, db = gradient(self.w, self.b, X, y)
            self.w -= self.lr * dw
            self.b -= self.lr * db
            self.history.append(loss(self.w, self.b, X, y))
        return self

    def predict(self, X):
        return X @ self.w + self.b
# %%
model = LinearRegression().fit(X, y)
model.history[-1]
# %%
# Exercise 3: standardise first
mean, std = X.mean(axis=0), X.std(axis=0)
standardise = lambda X: (X - mean) / std
# %%
better = LinearRegression(lr=0.5).fit(standardise(X), y, steps=40)
# %%
r2 = lambda m, X: 1 - ((m.predict(X) - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()
scores = {"plain": r2(model, X), "better": r2(better, standardise(X))}
scores
# %%
assert scores["better"] > 0.95, "try more steps"
# %%
%%serve_handler regression --sample [1.0, 2.0]
def predict(batch):
    rows = np.array(batch)
    return [{"plain": float(a), "better": float(b), "r2": round(scores["better"], 6)} for a, b in zip(model.predict(rows), better.predict(standardise(rows)))]
