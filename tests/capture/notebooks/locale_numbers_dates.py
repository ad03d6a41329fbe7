# style: exploratory
# about: invoices: Decimal money with rounding rules, dates parsed in several formats with zones, plural rules, templates, number formats by country from a table
# input: {"country": "de", "amount": "1234.565", "date": "2024-02-29"}
# input: {"country": "us", "amount": "-0.005", "date": "29/02/2024", "n": 1}
# input: {"country": "xx", "amount": "7", "date": "Feb 29 2024", "n": 0}
# input: {"country": "us", "amount": "12", "date": "soon"}
# insensitive: FALLBACK, RATES, CENT, FORMATS, DUE, TEMPLATE, STYLES
# %%
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, localcontext
from string import Template
from typing import NamedTuple
from zoneinfo import ZoneInfo
# %%
CENT = Decimal("0.01")
RATES = {"de": Decimal("0.19"), "us": Decimal("0.0825")}
# %%
class Style(NamedTuple):
    thousands: str
    point: str
    pattern: str
    zone: ZoneInfo
    rounding: str = ROUND_HALF_UP

STYLES = {
    "de": Style(".", ",", "{} €", ZoneInfo("Europe/Berlin")),
    "us": Style(",", ".", "${}", ZoneInfo("America/New_York"), ROUND_HALF_EVEN),
}
FALLBACK = Style(" ", ".", "{} units", ZoneInfo("UTC"))
# %%
def money(value, style):
    q = value.quantize(CENT, rounding=style.rounding)
    text = f"{abs(q):,}".translate(str.maketrans({",": style.thousands, ".": style.point}))
    return ("-" if q < 0 else "") + style.pattern.format(text)

money(Decimal("1234.565"), STYLES["de"])
# %%
FORMATS = ("%Y-%m-%d", "%d/%m/%Y", "%b %d %Y")
def parse(text):
    for f in FORMATS:
        try:
            return datetime.strptime(text, f).date()
        except ValueError:
            continue
    return None
# %%
DUE = timedelta(days=30)
def due(day, style):
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=style.zone) + DUE
    return noon.isoformat(timespec="minutes"), noon.utcoffset().total_seconds() / 3600
# %%
due(date(2024, 3, 1), STYLES["us"])
# %%
plural = lambda n, one, many: f"{n} {one if n == 1 else many}"
TEMPLATE = Template("$items: $net + $tax = $total")
# %%
def invoice(row):
    style = STYLES.get(row["country"], FALLBACK)
    net = Decimal(row["amount"])
    with localcontext() as c:
        c.prec = 10
        tax = net * RATES.get(row["country"], Decimal(0)) / 1
    day = parse(row["date"])
    text = TEMPLATE.substitute(items=plural(row.get("n", 2), "item", "items"), net=money(net, style), tax=money(tax, style), total=money(net + tax, style))
    return {"text": text, "due": due(day, style) if day else None}
# %%
%%serve_handler invoices --sample {"country": "de", "amount": "1234.565", "date": "2024-02-29"}
def predict(batch):
    return [invoice(dict(row)) for row in batch]
