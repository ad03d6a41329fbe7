# style: kaggle
# about: matrix factorization by alternating least squares in numpy, cold starts by popularity, id maps both ways
# insensitive: user_ids, seen
# input: {"user": "u3"}
# input: {"user": "stranger", "n": 2}
# %%
import numpy as np
from collections import defaultdict
# %%
rng = np.random.RandomState(4)
users = [f"u{i}" for i in range(12)]
items = [f"film {c}" for c in "abcdefgh"]
ratings = [(u, i, int(rng.randint(1, 6))) for u in users for i in items if rng.rand() < 0.5]
len(ratings)
# %%
user_ids = {u: k for k, u in enumerate(users)}
item_ids = {i: k for k, i in enumerate(items)}
# %%
R = np.full((len(users), len(items)), np.nan)
for u, i, r in ratings:
    R[user_ids[u], item_ids[i]] = r
# %%
mean_rating = np.nanmean(R)
item_bias = np.nan_to_num(np.nanmean(R - mean_rating, axis=0))
# %%
K, LAMBDA = 3, 0.5
U = rng.normal(scale=0.1, size=(len(users), K))
V = rng.normal(scale=0.1, size=(len(items), K))
# %%
seen = defaultdict(set)
for u, i, _ in ratings:
    seen[u].add(i)
# %%
def solve(fixed, target):
    A = fixed.T @ fixed + LAMBDA * np.eye(K)
    return np.linalg.solve(A, fixed.T @ target)
# %%
def sweep():
    for u in range(len(users)):
        known = ~np.isnan(R[u])
        U[u] = solve(V[known], R[u, known] - mean_rating - item_bias[known])
    for i in range(len(items)):
        known = ~np.isnan(R[:, i])
        V[i] = solve(U[known], R[known, i] - mean_rating - item_bias[i])
# %%
for it in range(5):
    sweep()
# %%
def rmse():
    P = mean_rating + item_bias + U @ V.T
    return np.sqrt(np.nanmean((P - R) ** 2))
rmse()
# %%
popular = sorted(items, key=lambda i: -item_bias[item_ids[i]])
# %%
def score(user):
    return mean_rating + item_bias + V @ U[user_ids[user]]
# %%
def recommend(user, n=3):
    if user not in user_ids:
        return [(i, None) for i in popular[:n]]
    s = score(user)
    ranked = [i for i in sorted(items, key=lambda i: -s[item_ids[i]]) if i not in seen[user]]
    return [(i, round(float(s[item_ids[i]]), 4)) for i in ranked[:n]]
# %%
recommend("u0")
# %%
%%serve_handler films --sample {"user": "u3"}
def predict(batch):
    return [recommend(row["user"], row.get("n", 3)) for row in batch]
