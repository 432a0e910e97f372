# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

import random
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image, ImageDraw, ImageFont
from retrieval.reference_pictures import COPIES, KINDS, chart, encoded, page, photo, resized, total

from leverplus_trl.retrieval.near_duplicates import MEASURED, Rates, image_signatures, near_duplicates
from leverplus_trl.tasks.images import decode_image


def every_pair(left, right):
    return np.array([(row, column) for row in range(len(left)) for column in range(len(right))]).reshape(-1, 2)


def pairs(left, right):
    found = near_duplicates(image_signatures(left), image_signatures(right), every_pair(left, right))
    return set(map(tuple, found.tolist()))


def alike(one, other):
    return pairs([decode_image(one)], [decode_image(other)]) == {(0, 0)}


def false_alarms(pictures):
    return {(one, other) for one, other in pairs(pictures, pictures) if one < other}


def measure(numbers):
    """How many copies of some pictures are found, and false alarms among all pairs of the reference set, by kind."""
    found, alarms = {}, {}
    for kind, make in KINDS.items():
        signatures = image_signatures(map(make, range(100)))
        different = np.stack(np.triu_indices(100, 1), axis=1)
        alarms[kind] = len(near_duplicates(signatures, signatures, different))
        positions = np.stack([numbers, np.arange(len(numbers))], axis=1)
        for name, copy in COPIES.items():
            copies = image_signatures(copy(make(number)) for number in numbers)
            found[kind, name] = len(near_duplicates(signatures, copies, positions))
    return found, alarms


def test_every_tenth_picture_is_found_in_its_copies_and_different_pictures_are_different():
    found, alarms = measure(range(0, 100, 10))
    assert found == dict.fromkeys(found, 10) and len(found) == 36
    assert sum(alarms.values()) == MEASURED.false_alarms and MEASURED.pairs == 6 * 4950


@pytest.mark.slow
def test_the_rates_that_are_printed_are_those_of_the_reference_set():
    found, alarms = measure(range(100))
    assert found == dict.fromkeys(found, 100)
    assert all(number <= 4 for number in alarms.values())  # 1 of 1,000 of 4,950 pairs
    assert Rates(100 * len(found), sum(found.values()), 4950 * len(alarms), sum(alarms.values())) == MEASURED


def test_the_rates_are_said_in_a_sentence():
    assert str(Rates(1800, 1799, 14850, 2)) == (
        "finds 1,799 of 1,800 copies that were compressed as JPEG (quality 90, 75) or resized (0.5 to 2 times), and "
        "takes 2 of 14,850 pairs of different pictures for copies (charts, photo-like pictures, pages of text, short "
        "words on large canvases, charts that differ in one bar and pages that differ in one figure)"
    )


@pytest.mark.parametrize("resampling", [Image.Resampling.BILINEAR, Image.Resampling.BOX, Image.Resampling.LANCZOS])
def test_copies_by_other_filters_are_found(resampling):
    for make in KINDS.values():
        for number in range(8):
            assert alike(make(number), resized(make(number), 0.5, resampling)), (make, number)


def test_copies_in_other_formats_and_modes_are_found():
    drawn = [chart(0), chart(9), page(0), page(2)]
    for picture in [*drawn, photo(2), photo(7)]:
        assert alike(picture, encoded(picture, "PNG")) and alike(picture, encoded(picture, "WEBP", quality=85))
        assert alike(picture, picture.convert("L")) and alike(picture, picture.convert("CMYK"))
        assert alike(picture, picture.resize((224, 224)))  # squeezed, as many datasets are
        assert alike(picture, encoded(resized(picture, 0.75), "JPEG", quality=75))
        picture.putalpha(255)
        assert alike(picture.convert("RGB"), encoded(picture, "PNG"))
    for picture in drawn:
        assert alike(picture, encoded(picture.convert("P", palette=Image.Palette.ADAPTIVE), "PNG"))
        assert alike(picture, encoded(picture, "GIF"))
        clear = picture.convert("RGBA")
        white = np.asarray(picture.convert("L")) == 255
        clear.putalpha(Image.fromarray(np.where(white, 0, 255).astype(np.uint8)))
        assert alike(picture, encoded(clear, "PNG"))  # white that is transparent


def test_a_picture_turned_by_exif_is_the_same_and_one_turned_by_hand_is_not():
    picture = chart(3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    assert alike(picture, encoded(picture.rotate(90, expand=True), "JPEG", quality=90, exif=exif))
    assert not alike(picture, picture.rotate(90, expand=True))


@pytest.mark.parametrize(
    ("size", "text_size"),
    [((224, 224), 12), ((224, 224), 40), ((800, 600), 24), ((96, 48), 16), ((1024, 768), 14), ((1600, 1200), 16)],
)
def test_different_short_words_on_white_are_different(size, text_size):
    draw, pictures = random.Random(5), []
    for _ in range(25):
        picture = Image.new("RGB", size, "white")
        word = "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=6))
        ImageDraw.Draw(picture).text(
            (size[0] // 5, size[1] // 3), word, fill="black", font=ImageFont.load_default(text_size)
        )
        pictures.append(picture)
    assert false_alarms(pictures) == set()
    assert all(alike(picture, encoded(picture, "JPEG", quality=75)) for picture in pictures[:10])


@pytest.mark.parametrize("page_number", range(4))
def test_pages_that_differ_in_one_figure_are_different(page_number):
    pages = [total(page_number, figure) for figure in (3, 8, 712, 718, 9999)]
    assert false_alarms(pages) == set()
    assert all(alike(page, encoded(resized(page, 0.5), "JPEG", quality=75)) for page in pages[:2])


def test_the_embedded_world_has_no_copies():
    stored = load_dataset(str(Path(__file__).parents[2] / "data" / "concept_binding"), split="test[:60]")
    pictures = list({one.tobytes(): one.convert("RGB") for one in stored["image"]}.values())
    assert len(pictures) > 40 and false_alarms(pictures) == set()


def shape(number):
    """A shape on a 64-pixel render."""
    draw = random.Random(number)
    picture = Image.new("RGB", (64, 64), tuple(draw.randrange(200, 256) for _ in range(3)))
    x, y, size = draw.uniform(18, 46), draw.uniform(18, 46), draw.uniform(8, 16)
    pen, ink = ImageDraw.Draw(picture), draw.choice(["red", "green", "blue", "gray", "teal", "brown", "black"])
    (pen.ellipse if number % 2 else pen.rectangle)((x - size, y - size, x + size, y + size), fill=ink)
    return picture


def icon(number):
    patches = np.random.default_rng(number).integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
    return Image.fromarray(patches)


@pytest.mark.parametrize("make", [shape, icon])
def test_small_pictures(make):
    pictures = [make(number) for number in range(60)]
    assert len(false_alarms(pictures)) <= 1
    larger = [
        picture.resize((8 * picture.width, 8 * picture.height), Image.Resampling.NEAREST) for picture in pictures
    ]
    assert {(number, number) for number in range(60)} <= pairs(pictures, larger)
    assert all(alike(picture, encoded(picture, "JPEG", quality=90, subsampling=0)) for picture in pictures)


def test_pictures_of_one_pixel_and_blank_ones():
    white, red = Image.new("RGB", (1, 1), "white"), Image.new("RGB", (1, 1), "red")
    page_of_white = Image.new("RGB", (600, 800), "white")
    assert alike(white, page_of_white) and alike(page_of_white, encoded(page_of_white, "JPEG", quality=75))
    assert not alike(white, red) and not alike(red, page_of_white)
    assert not alike(red, Image.new("RGB", (9, 9), "blue")) and alike(red, Image.new("RGB", (50, 50), (254, 1, 2)))
    assert not any(alike(page_of_white, page(number)) for number in range(4))


def test_colours_count_and_grey_is_the_lack_of_one():
    # Two colours of the same brightness, so only the colour differs.
    red, green = (200, 60, 60), (60, 119, 119)
    one, other = (Image.new("RGB", (120, 90), "white") for _ in range(2))
    for picture, ink in ((one, red), (other, green)):
        ImageDraw.Draw(picture).ellipse((30, 20, 90, 70), fill=ink)
    assert not alike(one, other)
    assert alike(one, one.convert("L")) and alike(other, other.convert("L"))


def test_each_picture_of_one_set_is_a_copy_of_its_own_in_the_other_and_order_is_kept():
    left = [make(number) for make in KINDS.values() for number in range(6)] + [icon(1), Image.new("RGB", (300, 2))]
    right = [resized(picture, 0.5) for picture in reversed(left)]
    mine, others, every = image_signatures(left), image_signatures(right), every_pair(left, right)
    found = near_duplicates(mine, others, every)
    assert found.tolist() == [[row, len(left) - 1 - row] for row in range(len(left))]
    assert near_duplicates(mine, others, every[::-1]).tolist() == found[::-1].tolist()
    assert near_duplicates(mine, image_signatures([]), every[:0]).shape == (0, 2)
