# style: language
# about: Greek letters, accents, CJK and combining forms as names, in text and as keys
# input: 0.0
# input: 1.25
# %%
import math

σ, μ = 1.5, 0.25
π = math.pi
ﬁnal = "ligature"
# %%
def dichte(x, *, größe=1.0):
    """Gaußsche Glocke – σ und μ von oben."""
    return größe * math.exp(-((x - μ) ** 2) / (2 * σ**2)) / (σ * math.sqrt(2 * π))
# %%
class Modèle:
    名前 = "モデル"

    def évaluer(self, x):
        return {"clé": f"→ {dichte(x):.6f} ←", self.名前: "😀" if x > 1 else "ß"}
# %%
modèle = Modèle()
données = {"é": "e", "e\u0301": "combined", "日本": [1, "二"]}
# %%
%%serve_handler glocke --sample 0.0
def predict(batch):
    return [[modèle.évaluer(x), données, ﬁnal] for x in batch]
