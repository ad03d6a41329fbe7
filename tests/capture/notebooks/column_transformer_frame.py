# style: kaggle
# about: a ColumnTransformer over a DataFrame with named columns, ordinal and one-hot encoders with unknown categories, calibrated boosting
# input: {"age": 31, "income": 42000.0, "city": "north", "plan": "basic"}
# input: {"age": 70, "income": null_income, "city": "never seen", "plan": "pro"}
# %%
import numpy as np
import pandas as pd
# %%
null_income = None
rng = np.random.default_rng(3)
n = 120
df = pd.DataFrame({"age": rng.integers(18, 80, n), "income": rng.normal(40000, 9000, n).round(), "city": rng.choice(["north", "south", "east"], n),
                   "plan": pd.Categorical(rng.choice(["basic", "plus", "pro"], n), categories=["basic", "plus", "pro"], ordered=True)})
df.loc[rng.random(n) < 0.1, "income"] = np.nan
# %%
df["churn"] = ((df.age > 50) ^ (df.plan == "pro")).astype(int)
# %%
df.dtypes
# %%
target = df.pop("churn")
# %%
num = ["age", "income"]
cat = [c for c in df.columns if c not in num]
# %%
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PowerTransformer
# %%
numeric = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), PowerTransformer())
# %%
prep = ColumnTransformer([("num", numeric, num), ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
                          ("plan", OrdinalEncoder(categories=[["basic", "plus", "pro"]]), ["plan"])])
# %%
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
# %%
base = HistGradientBoostingClassifier(max_iter=8, random_state=1)
# %%
pipe = Pipeline([("prep", prep), ("clf", CalibratedClassifierCV(base, cv=2))])
# %%
pipe.fit(df, target)
# %%
from sklearn.metrics import roc_auc_score
auc = round(roc_auc_score(target, pipe.predict_proba(df)[:, 1]), 3)
auc
# %%
dtypes = df.dtypes.astype(str).to_dict()
# %%
%%serve_handler churn --sample {"age": 31, "income": 42000.0, "city": "north", "plan": "basic"}
def predict(batch):
    frame = pd.DataFrame(batch, columns=list(dtypes)).astype({"age": "int64", "income": "float64"})
    return [{"churn": round(float(p), 6), "auc": auc} for p in pipe.predict_proba(frame)[:, 1]]
