# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""
Small datasets in the exact formats of the official releases: file names, folders, fields and their types.

`write_dataset(name, root, sizes)` writes the one that `leverplus prepare --dataset name --root root` reads. Answers
follow from the pictures (a colour), so a test can tell whether questions, annotations and images belong together.
"""

import base64
import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path

import PIL.Image


COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 128, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "yellow": (255, 255, 0),
}
NAMES = list(COLOURS)
LICENCE = {
    "url": "http://creativecommons.org/licenses/by/4.0/",
    "name": "Creative Commons Attribution 4.0 International License",
}
INFO = {
    "description": "This is v2.0 of the VQA dataset.",
    "url": "http://visualqa.org",
    "version": "2.0",
    "year": 2017,
    "contributor": "VQA Team",
    "date_created": "2017-04-26 17:07:13",
}
COCO_INFO = {
    "description": "COCO 2014 Dataset",
    "url": "http://cocodataset.org",
    "version": "1.0",
    "year": 2014,
    "contributor": "COCO Consortium",
    "date_created": "2017/09/01",
}


def colour_of(number: int) -> str:
    """The colour of the picture with that number."""
    return NAMES[number % len(NAMES)]


def picture(number: int, kind: str = "JPEG") -> bytes:
    """A picture of 32 x 24 pixels in the colour of its number, with a mark that tells it from others of the colour."""
    image = PIL.Image.new("RGB", (32, 24), COLOURS[colour_of(number)])
    image.putpixel((0, 0), (number % 256, number // 256 % 256, 77))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(number, "PNG" if path.suffix == ".png" else "JPEG"))


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _offset(split: str) -> int:
    return {"train": 0, "validation": 1000, "test": 2000}[split]


def _vqa(root: Path, sizes: Mapping[str, int], prefix: str, okvqa: bool) -> None:
    for split, size in sizes.items():
        coco = {"train": "train2014", "validation": "val2014"}[split]
        questions, annotations = [], []
        for number in range(_offset(split), _offset(split) + size):
            image_id = 9 + number // 2 * 17  # two questions an image
            question_id = image_id * (10 if okvqa else 1000) + number % 2
            colour = colour_of(image_id)
            write_picture(root / coco / f"COCO_{coco}_{image_id:012d}.jpg", image_id)
            text = (
                f"What is the colour of picture {image_id}?" if number % 2 == 0 else f"Which paint is in {image_id}?"
            )
            questions.append({"image_id": image_id, "question": text, "question_id": question_id})
            said = [colour] * 8 + ["grey", "no idea"]
            answers = [
                {"answer_id": place, "answer": answer, "answer_confidence": "yes"}
                for place, answer in enumerate(said, start=1)
            ]
            annotation = {"image_id": image_id, "question_id": question_id, "answers": answers, "answer_type": "other"}
            if okvqa:
                for answer in answers:
                    answer["raw_answer"] = answer["answer"] + "s"
                annotation |= {"question_type": "four", "confidence": 3}
            else:
                annotation |= {"question_type": "what is", "multiple_choice_answer": colour}
            annotations.append(annotation)
        common = {"info": INFO, "data_type": "mscoco", "data_subtype": coco, "license": LICENCE}
        write_json(
            root / f"{prefix}OpenEnded_mscoco_{coco}_questions.json",
            {**common, "task_type": "Open-Ended", "questions": questions},
        )
        kinds = {"question_types": {"four": "Plants and Animals"}} if okvqa else {}
        write_json(root / f"{prefix}mscoco_{coco}_annotations.json", {**common, **kinds, "annotations": annotations})


def write_okvqa(root: Path, sizes: Mapping[str, int]) -> None:
    _vqa(root, sizes, "", okvqa=True)


def write_vqav2(root: Path, sizes: Mapping[str, int]) -> None:
    _vqa(root, sizes, "v2_", okvqa=False)


def _captions(number: int) -> list[str]:
    colour = colour_of(number)
    return [
        f"A {colour} picture with the number {number}.",
        f"A picture that is {colour}.",
        f"Something {colour}, all over.",
        f"Somebody painted this {colour}.",
        f"a {colour} rectangle \n",
    ]


def _coco_captions(root: Path, sizes: Mapping[str, int], year: str) -> None:
    for split, size in sizes.items():
        coco = {"train": f"train{year}", "validation": f"val{year}"}[split]
        images, annotations = [], []
        for number in range(_offset(split) + 1, _offset(split) + 1 + size):
            name = f"COCO_{coco}_{number:012d}.jpg" if year == "2014" else f"{number:012d}.jpg"
            write_picture(root / coco / name, number)
            images.append(
                {
                    "license": 5,
                    "file_name": name,
                    "coco_url": f"http://images.cocodataset.org/{coco}/{name}",
                    "height": 24,
                    "width": 32,
                    "date_captured": "2013-11-14 16:28:13",
                    "flickr_url": f"http://farm4.staticflickr.com/3153/{number}_z.jpg",
                    "id": number,
                }
            )
            for caption in _captions(number):
                annotations.append({"image_id": number, "id": 48 + len(annotations), "caption": caption})
        licences = [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}]
        write_json(
            root / "annotations" / f"captions_{coco}.json",
            {"info": COCO_INFO, "images": images, "licenses": licences, "annotations": annotations},
        )


def write_coco_2014(root: Path, sizes: Mapping[str, int]) -> None:
    _coco_captions(root, sizes, "2014")


def write_coco_2017(root: Path, sizes: Mapping[str, int]) -> None:
    _coco_captions(root, sizes, "2017")


def write_coco_karpathy(root: Path, sizes: Mapping[str, int]) -> None:
    images = []
    for split, size in sizes.items():
        for place in range(size):
            number = _offset(split) + 1 + place
            official = {"train": ("train", "restval")[place % 2], "validation": "val", "test": "test"}[split]
            folder = "train2014" if official == "train" else "val2014"
            name = f"COCO_{folder}_{number:012d}.jpg"
            write_picture(root / folder / name, number)
            sentences = [
                {
                    "tokens": caption.lower().replace(",", "").replace(".", "").split(),
                    "raw": caption,
                    "imgid": len(images),
                    "sentid": 5 * number + turn,
                }
                for turn, caption in enumerate(_captions(number))
            ]
            images.append(
                {
                    "filepath": folder,
                    "sentids": [sentence["sentid"] for sentence in sentences],
                    "filename": name,
                    "imgid": len(images),
                    "split": official,
                    "sentences": sentences,
                    "cocoid": number,
                }
            )
    write_json(root / "dataset_coco.json", {"images": images, "dataset": "coco"})


def write_textvqa(root: Path, sizes: Mapping[str, int]) -> None:
    for split, size in sizes.items():
        name = {"train": "train", "validation": "val"}[split]
        data = []
        for number in range(_offset(split), _offset(split) + size):
            image_id = f"{number:016x}"
            write_picture(root / "train_images" / f"{image_id}.jpg", number)
            question = f"what does sign {number} say?"
            data.append(
                {
                    "question": question,
                    "image_id": image_id,
                    "image_classes": ["Poster", "Sign"],
                    "flickr_original_url": f"https://farm1.staticflickr.com/{number}_o.jpg",
                    "flickr_300k_url": f"https://c2.staticflickr.com/{number}_z.jpg",
                    "image_width": 32,
                    "image_height": 24,
                    "answers": [colour_of(number)] * 9 + [""],
                    "question_tokens": question.rstrip("?").split(),
                    "question_id": number,
                    "set_name": name,
                }
            )
        content = {"dataset_type": name, "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": data}
        write_json(root / f"TextVQA_0.5.1_{name}.json", content)


def write_docvqa(root: Path, sizes: Mapping[str, int]) -> None:
    for split, size in sizes.items():
        name = {"train": "train", "validation": "val"}[split]
        data = []
        for number in range(_offset(split), _offset(split) + size):
            page = f"xnbl{number:04d}_1.png"
            write_picture(root / name / "documents" / page, number)
            data.append(
                {
                    "questionId": 337 + number,
                    "question": f"What is the colour of page {number}?",
                    "image": f"documents/{page}",
                    "docId": 279 + number,
                    "ucsf_document_id": f"xnbl{number:04d}",
                    "ucsf_document_page_no": "1",
                    "answers": [colour_of(number), colour_of(number).upper()],
                    "data_split": name,
                }
            )
        content = {"dataset_name": "docvqa", "dataset_version": "1.0", "dataset_split": name, "data": data}
        write_json(root / name / f"{name}_v1.0.json", content)


def write_scienceqa(root: Path, sizes: Mapping[str, int]) -> None:
    problems, split_ids = {}, {}
    for split, size in sizes.items():
        name = {"train": "train", "validation": "val", "test": "test"}[split]
        split_ids[name] = []
        # One more than asked for, without an image.
        for number in range(_offset(split) + 1, _offset(split) + 2 + size):
            has_image = number <= _offset(split) + size
            choices = [colour_of(number + 1), colour_of(number), colour_of(number + 2)]
            if has_image:
                write_picture(root / "images" / name / str(number) / "image.png", number)
            problems[str(number)] = {
                "question": f"Which of these colours does picture {number} show?",
                "choices": choices,
                "answer": 1,
                "hint": "Colours are named in English." if number % 2 else "",
                "image": "image.png" if has_image else None,
                "task": "closed choice",
                "grade": "grade2",
                "subject": "natural science",
                "topic": "physics",
                "category": "Light",
                "skill": "Name colours",
                "lecture": "Light has a wavelength.",
                "solution": f"The picture is {colour_of(number)}.",
                "split": name,
            }
            split_ids[name].append(str(number))
    write_json(root / "problems.json", problems)
    write_json(root / "pid_splits.json", split_ids)


def write_gsm8k(root: Path, sizes: Mapping[str, int]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        lines = []
        for number in range(_offset(split), _offset(split) + size):
            total = number + 1200
            answer = f"She has {number} + 1200 = <<{number}+1200={total}>>{total} eggs.\n#### {total:,}"
            question = f"Ann has {number} eggs and is given 1200 more. How many has she?"
            lines.append(json.dumps({"question": question, "answer": answer}))
        (root / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_sst2(root: Path, sizes: Mapping[str, int]) -> None:
    folder = root / "SST-2"
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        lines = ["sentence\tlabel"]
        for number in range(_offset(split), _offset(split) + size):
            # An opening quotation mark that nothing closes, as in the official file.
            quote = '"' if number % 3 == 0 else ""
            lines.append(f"{quote}film {number} is {('a bore', 'a joy')[number % 2]} \t{number % 2}")
        name = {"train": "train.tsv", "validation": "dev.tsv"}[split]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_mmbench(root: Path, sizes: Mapping[str, int]) -> None:
    columns = ["index", "question", "hint", "A", "B", "C", "D", "answer", "category", "image", "source", "l2-category"]
    columns += ["comment", "split"]
    rows = []
    for number in range(sizes["validation"]):
        letters = "ABCD" if number % 2 else "ABC"
        choices = [colour_of(number + turn) for turn in range(len(letters))]
        for turn in range(len(letters)):  # circular: the choices rotated, the index a million higher
            turned = choices[turn:] + choices[:turn]
            rows.append(
                {
                    "index": number + 1_000_000 * turn,
                    "question": f"Which colour, seen\nfrom afar, has picture {number}?",
                    "hint": "Look at it." if number % 2 else "",
                    **dict(zip(letters, turned, strict=True)),
                    "answer": "ABCD"[turned.index(colour_of(number))],
                    "category": "attribute_recognition",
                    # Rotations refer to the row that has the image.
                    "image": base64.b64encode(picture(number)).decode() if turn == 0 else str(number),
                    "source": "fixture",
                    "l2-category": "finegrained_perception (instance-level)",
                    "comment": "",
                    "split": "dev",
                }
            )
    root.mkdir(parents=True, exist_ok=True)
    with open(root / "MMBench_dev_en.tsv", "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns, delimiter="\t", lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["index"]))


WRITERS = {
    "okvqa": write_okvqa,
    "vqav2": write_vqav2,
    "coco_2014": write_coco_2014,
    "coco_2017": write_coco_2017,
    "coco_karpathy": write_coco_karpathy,
    "textvqa": write_textvqa,
    "docvqa": write_docvqa,
    "scienceqa": write_scienceqa,
    "gsm8k": write_gsm8k,
    "sst2": write_sst2,
    "mmbench": write_mmbench,
}


def write_dataset(name: str, root: Path, sizes: Mapping[str, int]) -> None:
    """
    Writes the official files of a dataset.

    Args:
        name (`str`):
            As in `leverplus prepare --dataset`.
        root (`Path`):
            Folder for them.
        sizes (`Mapping[str, int]`):
            Examples of each split that is to be written, up to 1,000.
    """
    WRITERS[name](root, sizes)
