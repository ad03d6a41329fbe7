# style: kaggle
# about: progression of diabetes: several models compared in a loop, the best by cross-validation blended with another
# input: X.iloc[0].to_dict()
# input: {"bmi": 0.05}
# %%
import warnings
warnings.simplefilter("ignore")
# %%
import numpy as np, pandas as pd
from sklearn.datasets import load_diabetes
# %%
SEED = 2024
N_FOLDS = 3
# %%
data = load_diabetes(as_frame=True)
X, y = data.data, data.target
X.shape
# %%
X.describe().T
# %%
corr = X.corrwith(y).abs().sort_values(ascending=False)
keep = corr.index[:6].tolist()
keep
# %%
def add_features(frame):
    frame = frame.copy()
    frame["bmi_bp"] = frame["bmi"] * frame["bp"]
    frame["s5_2"] = frame["s5"] ** 2
    return frame
# %%
X_fe = add_features(X[keep])
# %%
from sklearn.linear_model import ElasticNet, Lasso, Ridge
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler
# %%
models = {
    "ridge": make_pipeline(RobustScaler(), Ridge(alpha=1.0)),
    "lasso": make_pipeline(RobustScaler(), Lasso(alpha=0.1)),
    "enet": make_pipeline(RobustScaler(), ElasticNet(alpha=0.01)),
    "gbr": GradientBoostingRegressor(n_estimators=15, random_state=SEED),
}
# %%
from sklearn.model_selection import KFold, cross_val_score
def rmse_cv(model):
    kf = KFold(N_FOLDS, shuffle=True, random_state=SEED)
    return float(np.sqrt(-cross_val_score(model, X_fe, y, scoring="neg_mean_squared_error", cv=kf)).mean())
# %%
scores = {}
for name, model in models.items():
    scores[name] = rmse_cv(model)
    print(f"{name:>6}: {scores[name]:.3f}")
# %%
best, second = sorted(scores, key=scores.get)[:2]
# %%
fitted = {name: models[name].fit(X_fe, y) for name in (best, second)}
# %%
class Blend:
    def __init__(self, models, weights):
        self.models = models
        self.weights = np.asarray(weights) / np.sum(weights)

    def predict(self, frame):
        return np.column_stack([m.predict(frame) for m in self.models]) @ self.weights
# %%
blend = Blend(list(fitted.values()), [1 / scores[best], 1 / scores[second]])
# %%
means = X.mean()
submission = pd.DataFrame({"id": range(3), "target": blend.predict(X_fe.head(3))})
submission
# %%
%%serve_handler diabetes --sample X.iloc[0].to_dict()
def predict(batch):
    frame = pd.DataFrame([{**means.to_dict(), **row} for row in batch])[keep]
    return [{"target": round(float(v), 4), "models": [best, second]} for v in blend.predict(add_features(frame))]
