# style: kaggle
# about: house prices in Kaggle style: a CFG class, seed_everything, feature engineering with pandas, K folds of two kinds of models, rank-weighted blend
# input: {"OverallQual": 7, "GrLivArea": 1710, "YearBuilt": 2003, "YrSold": 2008, "Neighborhood": "CollgCr", "GarageCars": 2.0}
# input: {"OverallQual": 5, "GrLivArea": 900, "YearBuilt": 1950, "YrSold": 2010, "Neighborhood": "Nowhere", "GarageCars": None}
# input: {"OverallQual": 9, "GrLivArea": 3100, "YearBuilt": 2007, "YrSold": 2007, "Neighborhood": "NoRidge"}
# insensitive: CFG, models, weights, target_median, folds, LUXURY, counts
# undetected: CFG, ambient
# %%
import gc
import os
import random
import warnings
warnings.filterwarnings("ignore")
# %%
import numpy as np
import pandas as pd
pd.set_option("display.max_columns", 100)
# %%
class CFG:
    seed = 42
    n_folds = 4
    target = "SalePrice"
    debug = False
    models = ["ridge", "gbr"]
    params = {"ridge": {"alpha": 3.0}, "gbr": {"n_estimators": 25, "max_depth": 3}}
# %%
def seed_everything(seed=CFG.seed):
    random.seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)
    np.random.seed(seed)

seed_everything()
# %%
hoods = ["CollgCr", "Veenker", "NoRidge", "OldTown", "Edwards"]
n = 160
train = pd.DataFrame({
    "Id": np.arange(1, n + 1),
    "OverallQual": np.random.randint(2, 10, n),
    "GrLivArea": np.random.randint(700, 3200, n),
    "YearBuilt": np.random.randint(1900, 2009, n),
    "YrSold": np.random.randint(2006, 2011, n),
    "Neighborhood": np.random.choice(hoods, n),
    "GarageCars": np.where(np.random.rand(n) < 0.1, np.nan, np.random.randint(0, 4, n)),
})
train[CFG.target] = (15000 * train.OverallQual + 60 * train.GrLivArea + 200 * (train.YearBuilt - 1900) + np.random.normal(0, 9000, n)).round()
train.head()
# %%
train.describe().T
# %%
train.isna().mean().sort_values(ascending=False).head(3)
# %%
train = train[train.GrLivArea < 3150].reset_index(drop=True)
y = np.log1p(train.pop(CFG.target))
# %%
garage_median = train["GarageCars"].median()
qual_by_hood = train.groupby("Neighborhood")["OverallQual"].mean()
counts = train["Neighborhood"].value_counts().to_dict()
# %%
LUXURY = 8
def fe(df):
    df = df.copy()
    df["GarageCars"] = df["GarageCars"].astype(float).fillna(garage_median)
    df["Age"] = (df["YrSold"] - df["YearBuilt"]).clip(lower=0)
    df["New"] = (df["Age"] <= 1).astype(int)
    df["LogArea"] = np.log1p(df["GrLivArea"])
    df["AreaPerQual"] = df["GrLivArea"] / df["OverallQual"]
    df["HoodQual"] = df["Neighborhood"].map(qual_by_hood).fillna(qual_by_hood.mean())
    df["HoodCount"] = df["Neighborhood"].map(counts).fillna(0)
    df["Luxury"] = df["OverallQual"].ge(LUXURY).astype(int)
    return pd.get_dummies(df.drop(columns=["Id"], errors="ignore"), columns=["Neighborhood"], dtype=float)
# %%
X = fe(train)
features = X.columns.tolist()
X.shape
# %%
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
# %%
def make_model(kind, fold):
    if kind == "ridge":
        return make_pipeline(StandardScaler(), Ridge(**CFG.params[kind]))
    return GradientBoostingRegressor(random_state=CFG.seed + fold, **CFG.params[kind])
# %%
oof = {kind: np.zeros(len(X)) for kind in CFG.models}
models = {kind: [] for kind in CFG.models}
folds = KFold(CFG.n_folds, shuffle=True, random_state=CFG.seed)
for fold, (tr, va) in enumerate(folds.split(X)):
    for kind in CFG.models:
        model = make_model(kind, fold).fit(X.iloc[tr], y.iloc[tr])
        oof[kind][va] = model.predict(X.iloc[va])
        models[kind].append(model)
    print(f"fold {fold}: " + ", ".join(f"{k} {mean_squared_error(y.iloc[va], oof[k][va]) ** .5:.4f}" for k in CFG.models))
# %%
rmse = pd.Series({k: mean_squared_error(y, v) ** 0.5 for k, v in oof.items()})
weights = (1 / rmse) / (1 / rmse).sum()
weights
# %%
del train, oof
gc.collect();
# %%
def blend(frame):
    total = np.zeros(len(frame))
    for kind, trained in models.items():
        total += weights[kind] * np.mean([m.predict(frame) for m in trained], axis=0)
    return np.expm1(total)
# %%
target_median = float(np.expm1(y.median()))
# %%
%%serve_handler houses --sample {"OverallQual": 7, "GrLivArea": 1710, "YearBuilt": 2003, "YrSold": 2008, "Neighborhood": "CollgCr", "GarageCars": 2.0}
def predict(batch):
    frame = pd.DataFrame([dict(row) for row in batch]).reindex(columns=["OverallQual", "GrLivArea", "YearBuilt", "YrSold", "Neighborhood", "GarageCars"])
    prices = blend(fe(frame).reindex(columns=features, fill_value=0.0))
    return [{"price": round(float(p), 2), "above": bool(p > target_median)} for p in prices]
