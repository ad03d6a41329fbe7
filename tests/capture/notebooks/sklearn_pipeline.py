# style: values
# about: a scikit-learn pipeline of scaler, PCA and logistic regression, with its label encoder
# insensitive: labels
# input: X[0].tolist()
# input: X[100].tolist()
# %%
import numpy as np
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, StandardScaler
# %%
X, y = load_wine(return_X_y=True)
labels = LabelEncoder().fit(["red", "rosé", "white"])
pipeline = make_pipeline(StandardScaler(), PCA(5, random_state=0), LogisticRegression(max_iter=500)).fit(X, labels.inverse_transform(y))
pipeline.score(X, labels.inverse_transform(y))
# %%
%%serve_handler wine --sample X[0].tolist()
def predict(batch):
    probabilities = pipeline.predict_proba(np.array(batch))
    return [{"kind": str(pipeline.classes_[p.argmax()]), "code": int(labels.transform([pipeline.classes_[p.argmax()]])[0]), "p": p.tolist()} for p in probabilities]
