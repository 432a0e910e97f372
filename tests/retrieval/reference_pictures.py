# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Pictures that look alike within their kind, and copies of them: what a search for near-duplicates is measured on."""

import io
import random
from collections.abc import Callable

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont


WORDS = """
the of and to in is that for it as was with be by on not he his but at are this have from they one you all she there
would their we been has when who will more no if out so said what up its about than into them can only other new some
could time these two may then do first any my now such like our over man me even most made after also did many before
must through years where much your way well down should because each just those people how too little state good very
make world still own see men work long get here between both life being under never day same another know while last
might us great old year off come since against go came right used take three
""".split()  # noqa: SIM905
LINE, LINES = {"kind": "line", "points": 11, "colours": 1}, {"kind": "line", "points": 24, "colours": 2, "grid": True}
BARS, MANY_BARS = {"kind": "bar", "points": 5, "grid": True}, {"kind": "bar", "points": 12, "background": "#f5f5f5"}
POINTS, GREY_LINE = {"kind": "scatter", "points": 25, "grid": True}, {"kind": "line", "points": 8, "ink": "#787878"}
#: Charts of one style differ in their values alone.
STYLES = (LINE, LINES, BARS, MANY_BARS, POINTS, GREY_LINE)
INKS = ("#1e3cc8", "#ff7f0e", "#46823c")
CHART_SIZES = ((400, 300), (640, 480), (320, 240), (800, 600))
CANVASES = (((1600, 1200), 16), ((1024, 768), 14), ((800, 600), 12), ((640, 480), 12))
PAGES = (((600, 800), 14), ((500, 400), 16), ((1240, 1754), 24), ((320, 160), 14))
PHOTO_SIZES = ((256, 192), (200, 300), (500, 333), (128, 128), (640, 360))


def chart(number: int) -> Image.Image:
    """One of six styles by Pillow, or of three by matplotlib, in 1 of 5."""
    if number % 5 == 4:
        return _figure(number)
    draw = random.Random(f"chart {number}")
    style = STYLES[number % 6]
    width, height = CHART_SIZES[number // 6 % 4] if number % 2 else CHART_SIZES[0]
    left, top, right, bottom = round(0.12 * width), round(0.1 * height), round(0.96 * width), round(0.86 * height)
    image = Image.new("RGB", (width, height), style.get("background", "white"))
    pen = ImageDraw.Draw(image)
    for line in range(1, 5) if style.get("grid") else ():
        level = bottom - (bottom - top) * line // 5
        pen.line((left, level, right, level), fill="#e1e1e1")
    pen.line([(left, top), (left, bottom), (right, bottom)], fill="black", width=1 + number % 2)
    points = style["points"]
    for ink in INKS[: style.get("colours", 1)]:
        ink = style.get("ink", ink)
        levels = [bottom - (bottom - top) * draw.uniform(0.05, 0.95) for _ in range(points)]
        places = [left + (right - left) * (point + 0.5) / points for point in range(points)]
        if style["kind"] == "line":
            pen.line(list(zip(places, levels, strict=True)), fill=ink, width=1 + number % 2)
        for place, level in zip(places, levels, strict=True):
            if style["kind"] == "bar":
                half = 0.3 * (right - left) / points
                pen.rectangle((place - half, level, place + half, bottom), fill=ink)
            elif style["kind"] == "scatter":
                place = draw.uniform(left, right)
                pen.ellipse((place - 3, level - 3, place + 3, level + 3), fill=ink)
    pen.text((0.3 * width, 2), f"Sales of {style['kind']}s", fill="black", font=ImageFont.load_default(height // 20))
    return image


def _figure(number: int) -> Image.Image:
    draw = np.random.default_rng(number)
    figure = Figure(figsize=(4, 3), dpi=80)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(title="Results", ylim=(0, 10))
    if number % 3 == 0:
        axes.bar(range(5), draw.uniform(1, 9, 5))
    elif number % 3 == 1:
        axes.plot(draw.uniform(1, 9, 8), linewidth=0.8, color="gray")
    else:
        axes.scatter(range(15), draw.uniform(1, 9, 15), s=8)
    stored = io.BytesIO()
    figure.savefig(stored)
    return Image.open(stored).convert("RGB")


def photo(number: int) -> Image.Image:
    """Smooth fields of colour and grain, and up to five shapes."""
    draw = np.random.default_rng(1000 + number)
    width, height = PHOTO_SIZES[number % 5]
    field = np.full((height, width, 3), 128.0)
    for cells, strength in ((3, 60), (8, 35), (24, 15))[: 1 + number % 4]:
        noise = strength * draw.normal(size=(cells, cells, 3))
        channels = [Image.fromarray(noise[..., channel].astype("f4")) for channel in range(3)]
        field += np.stack([one.resize((width, height), Image.Resampling.BICUBIC) for one in channels], axis=-1)
    field += draw.choice([0, 4, 10]) * draw.normal(size=(height, width, 1))
    image = Image.fromarray(field.clip(0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(draw.integers(0, 6)):
        x, y, size = draw.uniform(0, width), draw.uniform(0, height), draw.uniform(0.05, 0.3) * min(width, height)
        shape = pen.ellipse if draw.random() < 0.5 else pen.rectangle
        shape((x - size, y - size, x + size, y + size), fill=tuple(draw.integers(0, 256, 3).tolist()))
    return image


def page(number: int) -> Image.Image:
    """A word, a page of lines, a form or a slide: other words in the same places."""
    draw = random.Random(f"page {number}")
    return (_word, _lines, _form, _slide)[number % 4](draw)


def _word(draw: random.Random) -> Image.Image:
    image = Image.new("RGB", (224, 224), "white")
    code = "".join(draw.choices("ABCDEFGHKLMNP0123456789", k=8))
    ImageDraw.Draw(image).text((60, 90), code, fill="black", font=ImageFont.load_default(24))
    return image


def _lines(draw: random.Random) -> Image.Image:
    image, font = Image.new("RGB", (600, 800), "white"), ImageFont.load_default(14)
    pen = ImageDraw.Draw(image)
    pen.text((40, 30), "Chapter 1", fill="black", font=ImageFont.load_default(26))
    for top in range(90, 760, 22):
        pen.text((40, top), " ".join(draw.choices(WORDS, k=14)), fill="black", font=font)
    return image


def _form(draw: random.Random) -> Image.Image:
    image, font = Image.new("RGB", (500, 400), "white"), ImageFont.load_default(16)
    pen = ImageDraw.Draw(image)
    pen.rectangle((10, 10, 490, 60), fill="#283c6e")
    pen.text((20, 20), "INVOICE", fill="white", font=ImageFont.load_default(24))
    for row, field in enumerate(("Name", "Street", "City", "Date", "Total")):
        top = 90 + 55 * row
        pen.text((20, top), f"{field}:", fill="black", font=font)
        pen.rectangle((120, top - 5, 480, top + 28), outline="black")
        pen.text((130, top), f"{draw.choice(WORDS)} {draw.randrange(10000)}", fill="black", font=font)
    return image


def _slide(draw: random.Random) -> Image.Image:
    image, font = Image.new("RGB", (320, 160), "white"), ImageFont.load_default(16)
    pen = ImageDraw.Draw(image)
    for top in range(10, 150, 30):
        pen.text((10, top), " ".join(draw.choices(WORDS, k=4)), fill="black", font=font)
    return image


def word(number: int) -> Image.Image:
    """A short word in the same place of one of four large canvases."""
    draw, (size, text_size) = random.Random(f"word {number}"), CANVASES[number % 4]
    image = Image.new("RGB", size, "white")
    text = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 7)))
    place = size[0] // 5, size[1] // 3
    ImageDraw.Draw(image).text(place, text, fill="black", font=ImageFont.load_default(text_size))
    return image


def bars(number: int) -> Image.Image:
    """One of four bar charts; one bar's height differs, by 1.6% of the picture's height or more."""
    style = number % 4
    width, height = CHART_SIZES[style]
    levels = random.Random(f"bars {style}").choices(range(20, 90), k=6)
    levels[style] = 10 + 2 * (number // 4)
    image = Image.new("RGB", (width, height), "white")
    pen, bottom = ImageDraw.Draw(image), 0.9 * height
    pen.line((0.1 * width, bottom, 0.95 * width, bottom), fill="black", width=2)
    for bar, level in enumerate(levels):
        left = (0.12 + 0.14 * bar) * width
        pen.rectangle((left, bottom - 0.008 * height * level, left + 0.09 * width, bottom), fill=INKS[style % 3])
    return image


def total(number: int, figure: int | None = None) -> Image.Image:
    """One of four pages of text; one figure of one to four digits differs."""
    draw, (size, text_size) = random.Random(f"total {number % 4}"), PAGES[number % 4]
    figures = [one for digits in range(1, 5) for one in draw.sample(range(10**digits // 10, 10**digits), 7)]
    image, font = Image.new("RGB", size, "white"), ImageFont.load_default(text_size)
    pen, left = ImageDraw.Draw(image), 2 * text_size
    for top in range(2 * text_size, size[1] - 4 * text_size, 2 * text_size):
        pen.text((left, top), " ".join(draw.choices(WORDS, k=size[0] // (5 * text_size))), fill="black", font=font)
    said = f"Total: {figures[number // 4] if figure is None else figure}"
    pen.text((left, size[1] - 2 * text_size), said, fill="black", font=font)
    return image


def encoded(image: Image.Image, kind: str, **options) -> Image.Image:
    """An image as it comes back from a file."""
    stored = io.BytesIO()
    image.save(stored, kind, **options)
    return Image.open(io.BytesIO(stored.getvalue()))


def resized(image: Image.Image, scale: float, resampling: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    return image.resize((max(1, round(scale * image.width)), max(1, round(scale * image.height))), resampling)


KINDS: dict[str, Callable[[int], Image.Image]] = {
    "chart": chart,
    "photo": photo,
    "page": page,
    "word": word,
    "bars": bars,
    "total": total,
}
COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 90": lambda image: encoded(image, "JPEG", quality=90),
    "JPEG 75": lambda image: encoded(image, "JPEG", quality=75),
    "0.5 x": lambda image: resized(image, 0.5),
    "0.75 x": lambda image: resized(image, 0.75),
    "1.5 x": lambda image: resized(image, 1.5),
    "2 x": lambda image: resized(image, 2),
}
