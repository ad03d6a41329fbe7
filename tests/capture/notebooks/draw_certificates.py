# style: exploratory
# about: drawings with PIL: ImageDraw on copies of a template, the default font at two sizes, text measured and wrapped, pictures as PNG in base64, numbers formatted by hand
# input: {"name": "Ada Lovelace", "score": 1234567.891}
# input: {"name": "Grace Brewster Murray Hopper", "score": -3.5, "tint": [10, 200, 10]}
# input: {"name": "", "score": 0}
# insensitive: WIDTH, MARGIN, palette, template
# %%
import base64
import io
import hashlib
import textwrap
# %%
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
# %%
WIDTH, HEIGHT, MARGIN = 120, 80, 6
palette = {"paper": (250, 245, 230), "ink": (20, 20, 60), "seal": (180, 30, 30)}
# %%
template = Image.new("RGB", (WIDTH, HEIGHT), palette["paper"])
pen = ImageDraw.Draw(template)
pen.rectangle((2, 2, WIDTH - 3, HEIGHT - 3), outline=palette["ink"], width=2)
pen.ellipse((WIDTH - 30, HEIGHT - 30, WIDTH - 10, HEIGHT - 10), fill=palette["seal"])
template
# %%
noise = np.random.default_rng(0).integers(0, 12, (HEIGHT, WIDTH, 1), dtype=np.uint8)
template = Image.fromarray(np.clip(np.asarray(template).astype(int) - noise, 0, 255).astype(np.uint8)).filter(ImageFilter.SMOOTH)
# %%
def font(size):
    return ImageFont.load_default(size)
# %%
def human(value):
    sign = "-" if value < 0 else ""
    whole, _, part = f"{abs(value):,.2f}".partition(".")
    return f"{sign}{whole.replace(',', '.')},{part}"

human(1234567.891), human(-3.5)
# %%
def wrapped(draw, text, size):
    big = font(size)
    lines = textwrap.wrap(text, 18) or ["(nobody)"]
    return lines, max(draw.textlength(line, font=big) for line in lines)
# %%
# first try, too slow
def certificate_old(name):
    return template.resize((WIDTH * 2, HEIGHT * 2))
# %%
def certificate(name, score, tint=None):
    picture = template.copy()
    draw = ImageDraw.Draw(picture)
    lines, width = wrapped(draw, name, 12)
    for number, line in enumerate(lines):
        draw.text((MARGIN, MARGIN + 14 * number), line, font=font(12), fill=palette["ink"])
    draw.text((MARGIN, HEIGHT - 20), human(score), font=font(10), fill=tuple(tint or palette["seal"]))
    return picture, round(width, 3)
# %%
certificate("Ada", 1.0)[0].size
# %%
def as_png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
# %%
len(as_png(template))
# %%
%%serve_handler certificates --sample {"name": "Ada Lovelace", "score": 1234567.891}
def predict(batch):
    answers = []
    for row in batch:
        picture, width = certificate(row["name"], row["score"], row.get("tint"))
        png = as_png(picture)
        answers.append({"width": width, "png": hashlib.sha256(png.encode()).hexdigest()[:12], "mean": [round(float(v), 4) for v in np.asarray(picture).mean((0, 1))]})
    return answers
