# style: kaggle
# about: churn with a ColumnTransformer, a target encoder of one's own, class weights, a threshold chosen by F1 on folds, feature names and reasons for each answer
# input: {"tenure": 2, "charges": 90.5, "contract": "monthly", "payment": "check"}
# input: {"tenure": 60, "charges": 20.0, "contract": "two year", "payment": "card"}
# input: {"tenure": None, "charges": 55.0, "contract": "weekly", "payment": "card"}
# insensitive: threshold, pipe, COLUMNS, TargetMean
# undetected: TargetMean.__init__, BaseEstimator, TransformerMixin, TargetMean_sklearn_auto_wrap_output_keys, TargetMean._sklearn_auto_wrap_output_keys
# unreached: TargetMean.__init__, TargetMean.fit, TargetMean.get_feature_names_out, TargetMean.get_feature_names_out.<locals>.<listcomp>
# %%
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
# %%
rng = np.random.default_rng(5)
n = 240
df = pd.DataFrame({"tenure": rng.integers(0, 72, n).astype(float), "charges": rng.uniform(18, 110, n).round(2), "contract": rng.choice(["monthly", "one year", "two year"], n, p=[0.5, 0.3, 0.2]), "payment": rng.choice(["check", "card", "bank"], n)})
df.loc[::17, "tenure"] = np.nan
# %%
p = 1 / (1 + np.exp(0.06 * df.tenure.fillna(20) - 0.02 * df.charges - 1.2 * (df.contract == "monthly")))
y = (rng.random(n) < p).astype(int)
y.mean()
# %%
class TargetMean(BaseEstimator, TransformerMixin):
    """mean of the target for each category, smoothed"""
    def __init__(self, smooth=5.0):
        self.smooth = smooth

    def fit(self, X, y):
        X = pd.DataFrame(X)
        self.columns_ = list(X.columns)
        self.prior_ = float(np.mean(y))
        self.tables_ = {}
        for c in X:
            g = pd.Series(y, index=X.index).groupby(X[c]).agg(["sum", "count"])
            self.tables_[c] = ((g["sum"] + self.smooth * self.prior_) / (g["count"] + self.smooth)).to_dict()
        return self

    def transform(self, X):
        return np.column_stack([pd.Series(X[c]).map(self.tables_[c]).fillna(self.prior_) for c in self.columns_])

    def get_feature_names_out(self, names=None):
        return np.array([f"{c}_mean" for c in self.columns_], dtype=object)
# %%
COLUMNS = {"num": ["tenure", "charges"], "cat": ["contract", "payment"]}
pre = ColumnTransformer([
    ("num", Pipeline([("fill", SimpleImputer(strategy="median", add_indicator=True)), ("scale", StandardScaler())]), COLUMNS["num"]),
    ("mean", TargetMean(smooth=3.0), COLUMNS["cat"]),
    ("hot", OneHotEncoder(handle_unknown="ignore", sparse_output=False), COLUMNS["cat"]),
])
# %%
pipe = Pipeline([("pre", pre), ("clf", LogisticRegression(class_weight="balanced", C=0.5, max_iter=500))])
oof = cross_val_predict(pipe, df, y, cv=StratifiedKFold(4, shuffle=True, random_state=0), method="predict_proba")[:, 1]
# %%
grid = np.linspace(0.2, 0.8, 25)
threshold = grid[np.argmax([f1_score(y, oof > t) for t in grid])]
threshold
# %%
pipe.fit(df, y)
names = pipe[:-1].get_feature_names_out()
coef = pd.Series(pipe[-1].coef_[0], index=names)
coef.sort_values().tail(3)
# %%
df.groupby("contract").tenure.describe()
# %%
pd.cut(df.charges, 4).value_counts()
# %%
def reasons(row, k=2):
    x = pd.Series(pipe[:-1].transform(row)[0], index=names)
    effect = (x * coef).sort_values(key=np.abs, ascending=False)
    return {name.split("__")[1]: round(float(v), 4) for name, v in effect.head(k).items()}
# %%
reasons(df.iloc[[0]])
# %%
df.drop(columns="payment").corr(numeric_only=True)
# %%
%%serve_handler churn --sample {"tenure": 2, "charges": 90.5, "contract": "monthly", "payment": "check"}
def predict(batch):
    frame = pd.DataFrame([dict(r) for r in batch]).astype({"tenure": float})
    proba = pipe.predict_proba(frame)[:, 1]
    return [{"churn": bool(p > threshold), "p": round(float(p), 5), "why": reasons(frame.iloc[[i]])} for i, p in enumerate(proba)]
