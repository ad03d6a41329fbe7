# style: homework
# about: a Kalman filter and a mixture by EM written by hand: numpy linear algebra, einsum, log-sum-exp, convergence in a while loop with else, results compared with scipy in asserts
# input: {"track": [0.9, 2.1, 2.9, 4.2]}
# input: {"track": []}
# input: {"point": [0.1, -0.2]}
# input: {"point": [4.0, 4.2]}
# insensitive: F, H, Qn, R, P0, mixture, em_rounds
# unreached: em
# undetected: em, _numpy_linalg
# %%
import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
# %% [markdown]
# ## Part A: filtering
# %%
F = np.array([[1.0, 1.0], [0.0, 1.0]])
H = np.array([[1.0, 0.0]])
Qn, R, P0 = 0.01 * np.eye(2), np.array([[0.25]]), np.eye(2) * 10
# %%
def predict_step(x, P):
    return F @ x, F @ P @ F.T + Qn
# %%
def update(x, P, z):
    S = H @ P @ H.T + R
    K = np.linalg.solve(S, H @ P).T
    return x + K @ (z - H @ x), (np.eye(2) - K @ H) @ P
# %%
def kalman(track):
    x, P = np.zeros(2), P0
    for z in track:
        x, P = update(*predict_step(x, P), np.array([z]))
    return x, P
# %%
assert np.allclose(kalman([1.0])[1], kalman([1.0])[1].T)
# %%
kalman([1, 2, 3, 4])[0]
# %% [markdown]
# ## Part B: EM
# %%
rng = np.random.default_rng(1)
data = np.concatenate([rng.normal(0, 0.6, (60, 2)), rng.normal(4, 0.9, (40, 2))])
# %%
def log_normal(x, mean, cov):
    L = np.linalg.cholesky(cov)
    y = np.linalg.solve(L, (x - mean).T)
    return -0.5 * (y**2).sum(0) - np.log(np.diag(L)).sum() - len(mean) / 2 * np.log(2 * np.pi)

assert np.allclose(log_normal(data[:5], np.ones(2), np.eye(2) * 2), multivariate_normal(np.ones(2), np.eye(2) * 2).logpdf(data[:5]))
# %%
def responsibilities(x, m):
    logs = np.stack([np.log(w) + log_normal(x, mu, cov) for w, mu, cov in m], axis=1)
    total = logsumexp(logs, axis=1, keepdims=True)
    return np.exp(logs - total), total.sum()
# %%
def em(x, m, tolerance=1e-6, most=200):
    before, rounds = -np.inf, 0
    while rounds < most:
        r, ll = responsibilities(x, m)
        n = r.sum(0)
        means = (r.T @ x) / n[:, None]
        m = []
        for k in range(len(n)):
            d = x - means[k]
            m.append((n[k] / len(x), means[k], np.einsum("n,ni,nj->ij", r[:, k], d, d) / n[k] + 1e-6 * np.eye(2)))
        rounds += 1
        if ll - before < tolerance:
            break
        before = ll
    else:
        print("not converged")
    return m, rounds
# %%
start = [(0.5, data[0], np.eye(2)), (0.5, data[-1], np.eye(2))]
mixture, em_rounds = em(data, start)
em_rounds, [w for w, *_ in mixture]
# %%
assert abs(sum(w for w, *_ in mixture) - 1) < 1e-9
# %%
np.round([mu for _, mu, _ in mixture], 2)
# %%
%%serve_handler homework --sample {"track": [0.9, 2.1, 2.9, 4.2]}
def predict(batch):
    out = []
    for row in batch:
        if "track" in row:
            x, P = kalman(row["track"])
            out.append({"x": np.round(x, 6).tolist(), "sd": round(float(np.sqrt(P[0, 0])), 6)})
        else:
            r, ll = responsibilities(np.array([row["point"]]), mixture)
            out.append({"r": np.round(r[0], 6).tolist(), "ll": round(float(ll), 6), "rounds": em_rounds})
    return out
