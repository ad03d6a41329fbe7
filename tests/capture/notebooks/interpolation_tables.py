# style: values
# about: scipy splines, distributions and sparse matrices, KD-trees, optimisation results kept as values
# insensitive: normal
# input: 0.5
# input: 2.25
# %%
import numpy as np
from scipy import interpolate, optimize, sparse, stats
from scipy.spatial import cKDTree
# %%
x = np.linspace(0, 3, 12)
spline = interpolate.CubicSpline(x, np.sin(x))
linear = interpolate.interp1d(x, np.cos(x), fill_value="extrapolate")
# %%
fit = optimize.curve_fit(lambda t, a, b: a * t + b, x, 2 * x + 1)[0]
normal = stats.norm(loc=1.0, scale=0.5)
kde_points = np.random.RandomState(0).normal(size=30)
# %%
graph = sparse.lil_matrix((4, 4))
graph[0, 1] = graph[2, 3] = 1.5
graph = graph.tocsr()
poly = np.polynomial.Polynomial([1.0, 0.0, -0.5])
roots = optimize.root_scalar(lambda t: t * t - 2, bracket=(0, 2))
# %%
%%serve_handler tables --sample 0.5
def predict(batch):
    return [{"s": float(spline(v)), "l": float(linear(v)), "fit": fit.round(6).tolist(), "p": float(normal.cdf(v)), "g": float((graph @ np.full(4, v)).sum()),
             "poly": float(poly(v)), "root": roots.root, "ok": bool(roots.converged)} for v in batch]
