# style: values
# about: PIL images and fonts as values, images sent as lists
# input: [[0, 255], [255, 0]]
# input: [[10, 10], [10, 10]]
# %%
import numpy as np
from PIL import Image, ImageOps

logo = Image.fromarray((np.arange(48).reshape(4, 4, 3) * 5).astype("uint8"), "RGB") if False else Image.fromarray((np.arange(48).reshape(4, 4, 3) * 5).astype("uint8"))
mask = logo.convert("L").point(lambda v: 255 if v > 100 else 0)
palette = logo.convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
# %%
def overlay(pixels):
    picture = Image.fromarray(np.array(pixels, dtype="uint8")).resize((4, 4), Image.Resampling.NEAREST).convert("RGB")
    return Image.composite(picture, logo, mask)
# %%
%%serve_handler overlay --sample [[0, 255], [255, 0]]
def predict(batch):
    return [{"pixels": np.asarray(overlay(p)).tolist(), "mirror": np.asarray(ImageOps.mirror(logo)).sum().item(), "mode": palette.mode, "colours": len(palette.getcolors())} for p in batch]
