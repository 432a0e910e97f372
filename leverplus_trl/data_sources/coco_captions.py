# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""COCO captions: the splits of 2014 and 2017, and Karpathy's splits. One example is an image with all its captions."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial

from ..tasks.columns import TEXT
from .data_source import DataSource, RawFiles, Row, example, expect, file_name, first_text, image_file


logger = logging.getLogger(__name__)

#: Tables need a question; the VLM sees the recipe's `question_template` instead.
QUESTION = "Describe the image in one sentence."
KARPATHY_SPLITS = {"train": ("train", "restval"), "validation": ("val",), "test": ("test",)}
COUNTS_2014 = {"train": 82783, "validation": 40504}
COUNTS_2017 = {"train": 118287, "validation": 5000}
KARPATHY_COUNTS = {"train": 113287, "validation": 5000, "test": 5000}


def _caption_example(image_id: object, captions: list[str | None], **columns: object) -> Row:
    captions = [(expect(str, "a caption", caption) or "").strip() for caption in captions]
    columns = {"problem": "" if any(captions) else "the image has no captions", **columns}
    return example(image_id, QUESTION, captions, answer=first_text(captions), image_id=str(image_id), **columns)


def _read(year: str, counts: dict[str, int], raw: RawFiles, split: str) -> Iterator[Row]:
    coco_split = f"{'train' if split == 'train' else 'val'}{year}"
    file = raw.find(f"captions_{coco_split}.json")
    images, annotations = raw.records(file, "images", counts[split], "images"), raw.records(file, "annotations")
    folder = raw.image_folder(coco_split)
    captions: dict[int, list[str | None]] = defaultdict(list)
    for annotation in raw.each(file, annotations):
        captions[annotation["image_id"]].append(expect(str, "caption", annotation["caption"]))
    for image_id, image in raw.by_id(file, images, "id"):
        own = captions.pop(image_id, [])
        yield _caption_example(image_id, own, image=image_file(folder, image["file_name"]))
    for image_id, own in captions.items():
        yield _caption_example(image_id, own, problem="the captions are of no image in the file")


def _read_karpathy(raw: RawFiles, split: str) -> Iterator[Row]:
    file = raw.find("dataset_coco.json")
    records, own = raw.records(file, "images"), KARPATHY_SPLITS[split]
    known = [name for names in KARPATHY_SPLITS.values() for name in names]
    counts = Counter(image["split"] for image in raw.each(file, records))
    message = "%s: %d images are skipped: their split is %r, which is none of Karpathy's."
    for name, count in counts.items():
        if name not in known:
            logger.warning(message, file, count, name)
    raw.check_count(file, sum(counts[name] for name in own), KARPATHY_COUNTS[split], f"images of the split {split}")
    names = {file_name(image["filepath"]) for image in raw.each(file, records) if image["split"] in own}
    folders = {name: raw.image_folder(name) for name in sorted(names)}
    for image in raw.each(file, records):
        if image["split"] in own:
            captions = [sentence["raw"] for sentence in image["sentences"]]
            path = image_file(folders[image["filepath"]], image["filename"])
            yield _caption_example(image["cocoid"], captions, image=path)


def _read_hub(row: Row, split: str, position: int) -> Row:
    # Called `answer` in the datasets of lmms-lab.
    captions = expect(list, "its list of captions", row["captions"] if "captions" in row else row["answer"])
    image_id = next((row[name] for name in ("image_id", "cocoid", "id", "question_id") if name in row), position)
    return _caption_example(image_id, captions or [])


_source = partial(
    DataSource,
    licence="captions: CC BY 4.0; images: the terms of use of Flickr, as COCO says",
    task="captioning",
    metric="cider",
    read_hub=_read_hub,
    extras={"image_id": TEXT},
)
_coco = partial(
    _source,
    homepage="https://cocodataset.org",
    citation="chen2015microsoft",
    reference="Chen et al., Microsoft COCO Captions: Data Collection and Evaluation Server, 2015",
)
COCO_2014 = _coco(
    title="COCO captions, 2014 splits",
    counts=COUNTS_2014,
    read=partial(_read, "2014", COUNTS_2014),
    hub_ids={"lmms-lab/COCO-Caption": None},
)
COCO_2017 = _coco(
    title="COCO captions, 2017 splits",
    counts=COUNTS_2017,
    read=partial(_read, "2017", COUNTS_2017),
    hub_ids={"lmms-lab/COCO-Caption2017": None, "AKCIT/coco2017-captioning": None},
)
COCO_KARPATHY = _source(
    title="COCO captions, Karpathy splits",
    homepage="https://cs.stanford.edu/people/karpathy/deepimagesent (images: https://cocodataset.org, 2014)",
    citation="karpathy2015deep",
    reference="Karpathy and Fei-Fei, Deep Visual-Semantic Alignments for Generating Image Descriptions, CVPR 2015",
    counts=KARPATHY_COUNTS,
    read=_read_karpathy,
    hub_ids={},
    note="`train` is Karpathy's `train` and `restval` together, as is usual.",
)
