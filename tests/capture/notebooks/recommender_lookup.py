# style: kaggle
# about: a recommender with dict lookups: co-occurrence of items, filters by category and stock, popularity for new users, explanations, identifiers of several kinds as keys
# input: {"user": 7, "k": 2}
# input: {"user": 999}
# input: {"basket": ["tea", "cup"], "k": 3, "category": "kitchen"}
# input: {"basket": ["nothing"], "k": 1}
# insensitive: DECAY, items, stock, co, popular, baskets, norms
# %%
import math
from collections import Counter, defaultdict
from itertools import combinations

import pandas as pd
# %%
orders = pd.DataFrame({
    "user": [7, 7, 7, 8, 8, 9, 9, 9, 10, 10, 11, 11],
    "item": ["tea", "cup", "pot", "tea", "cup", "book", "pen", "tea", "book", "pen", "cup", "pot"],
    "day": pd.to_datetime(["2024-01-0%d" % d for d in (1, 1, 2, 1, 3, 4, 4, 5, 6, 6, 7, 8)]),
})
orders.tail(3)
# %%
items = pd.DataFrame({"category": {"tea": "food", "cup": "kitchen", "pot": "kitchen", "book": "paper", "pen": "paper"}, "price": {"tea": 3.5, "cup": 8.0, "pot": 25.0, "book": 12.0, "pen": 1.2}})
stock = items.index.to_series().map(len).to_dict()
# %%
orders.groupby("item").size().sort_values()
# %%
DECAY = 0.9
last = orders.day.max()
orders["weight"] = DECAY ** (last - orders.day).dt.days
# %%
baskets = orders.groupby("user")["item"].agg(list).to_dict()
# %%
co = defaultdict(Counter)
for user, group in orders.groupby("user"):
    w = group.weight.mean()
    for a, b in combinations(group.item, 2):
        co[a][b] += w
        co[b][a] += w
# %%
popular = orders.groupby("item").weight.sum().sort_values(ascending=False)
norms = {i: math.sqrt(sum(v * v for v in c.values())) for i, c in co.items()}
# %%
def score(basket):
    total, why = Counter(), {}
    for owned in basket:
        for other, value in co.get(owned, {}).items():
            s = value / norms[other]
            total[other] += s
            if s > why.get(other, ("", 0))[1]:
                why[other] = (owned, s)
    return total, why
# %%
score(["tea"])[0].most_common(2)
# %%
def allowed(item, basket, category):
    return item not in basket and stock.get(item, 0) > 2 and (category is None or items.at[item, "category"] == category)
# %%
def recommend(basket, k=2, category=None):
    total, why = score(basket)
    ranked = sorted(total, key=lambda i: (-round(total[i], 9), i)) or list(popular.index)
    picked = [i for i in ranked if allowed(i, basket, category)][:k]
    return [{"item": i, "price": float(items.at[i, "price"]), "because": why.get(i, ("popular",))[0]} for i in picked]
# %%
recommend(["tea"], 2)
# %%
# evaluation: leave the last one out
hits = sum(b[-1] in [r["item"] for r in recommend(b[:-1], 3)] for b in baskets.values() if len(b) > 1)
hits / len(baskets)
# %%
del orders, last
# %%
%%serve_handler recommend --sample {"user": 7, "k": 2}
def predict(batch):
    return [recommend(row.get("basket") or baskets.get(row.get("user"), []), row.get("k", 2), row.get("category")) for row in batch]
