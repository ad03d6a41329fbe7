# style: kaggle
# about: survival on a ship: pandas feature engineering, imputing, one-hot by get_dummies, a forest; the handler repeats the features for one row
# insensitive: RARE, fallback_age, COLUMNS, TITLE, medians, fare_bins, importances
# input: {"Age": 22, "Fare": 7.25, "Sex": "male", "Pclass": 3, "Name": "Braund, Mr. Owen", "Embarked": "S"}
# input: {"Age": None, "Fare": 80.0, "Sex": "female", "Pclass": 1, "Name": "Doe, Dr. Ann", "Embarked": None}
# %%
import numpy as np
import pandas as pd
import re
%matplotlib inline
# %%
rng = np.random.default_rng(7)
n = 160
train = pd.DataFrame({
    "Age": np.where(rng.random(n) < 0.2, np.nan, rng.integers(1, 70, n)),
    "Fare": rng.gamma(2.0, 15.0, n).round(2),
    "Sex": rng.choice(["male", "female"], n),
    "Pclass": rng.integers(1, 4, n),
    "Name": [f"Person{i}, {t} X" for i, t in enumerate(rng.choice(["Mr.", "Mrs.", "Miss.", "Dr."], n))],
    "Embarked": rng.choice(["S", "C", "Q"], n),
})
train["Survived"] = ((train.Sex == "female") | (train.Pclass == 1) & (rng.random(n) > 0.4)).astype(int)
# %%
train.head()
# %%
train.isnull().sum()
# %%
df = train.copy()
# %%
TITLE = re.compile(r",\s*(\w+)\.")
def get_title(name):
    found = TITLE.search(name)
    return found.group(1) if found else "None"
df["Title"] = df["Name"].apply(get_title)
df["Title"].value_counts()
# %%
RARE = {"Dr", "Rev", "Col"}
df["Title"] = df["Title"].replace(list(RARE), "Rare")
# %%
medians = df.groupby("Title")["Age"].median()
fallback_age = float(df["Age"].median())
medians
# %%
def fill_age(age, title):
    if age is None or pd.isna(age):
        return float(medians.get(title, fallback_age))
    return float(age)
# %%
df["Age"] = [fill_age(a, t) for a, t in zip(df["Age"], df["Title"])]
# %%
fare_bins = pd.qcut(df["Fare"], 4, retbins=True, labels=False)[1]
df["FareBin"] = np.digitize(df["Fare"], fare_bins[1:-1])
# %%
X = pd.get_dummies(df[["Age", "FareBin", "Sex", "Pclass", "Title", "Embarked"]])
COLUMNS = X.columns.tolist()
y = df["Survived"]
# %%
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score, train_test_split
X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.2, random_state=42)
# %%
clf = RandomForestClassifier(n_estimators=8, max_depth=4, random_state=42)
clf.fit(X_train.to_numpy(dtype=float), y_train)
# %%
clf.score(X_val.to_numpy(dtype=float), y_val)
# %%
importances = pd.Series(clf.feature_importances_, index=COLUMNS).sort_values(ascending=False)
importances.head(3)
# %%
def features(row):
    title = get_title(row["Name"])
    if title in RARE:
        title = "Rare"
    one = {"Age": fill_age(row["Age"], title), "FareBin": int(np.digitize(row["Fare"], fare_bins[1:-1])), "Pclass": row["Pclass"],
           f"Sex_{row['Sex']}": 1, f"Title_{title}": 1, f"Embarked_{row['Embarked'] or 'S'}": 1}
    return [float(one.get(column, 0)) for column in COLUMNS]
# %%
%%serve_handler passengers --sample {"Age": 22, "Fare": 7.25, "Sex": "male", "Pclass": 3, "Name": "Braund, Mr. Owen", "Embarked": "S"}
def predict(batch):
    p = clf.predict_proba(np.array([features(row) for row in batch]))[:, 1]
    return [{"survives": bool(each > 0.5), "p": float(each), "because": importances.index[0]} for each in p]
