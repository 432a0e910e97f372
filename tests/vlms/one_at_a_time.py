# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""What everything is compared with: one prompt at a time, through the stock processor and the model itself."""

import numpy as np
import torch


def logprobs(found):
    """Of [`AnswerLogprob`]s, as an array."""
    return np.array([score.logprob for score in found])


def plain_logprob(vlm, request):
    """The definition: one forward over the whole prompt and the answer, through the stock processor."""
    whole = vlm.family.prompt.whole(*request)
    answer, _ = vlm.family.prompt.answer(request.query)

    def inputs(text):
        if not vlm.family.takes_images:
            return dict(vlm.tokenizer(text, return_tensors="pt"))  # a start token, where the tokenizer adds one
        images = list(whole.images) or None
        return dict(vlm.family.processor(text=[text], images=images, return_tensors="pt"))

    full = inputs(whole.text + answer)
    ids = full["input_ids"][0]
    start = inputs(whole.text)["input_ids"].shape[1]
    with torch.no_grad():
        logprobs = vlm.model(**full).logits[0].log_softmax(-1)
    return sum(logprobs[i - 1, ids[i]].item() for i in range(start, len(ids))), len(ids) - start


def single_generations(vlm, requests, **settings):
    """What `model.generate` says behind each prompt alone."""
    texts = []
    for request in requests:
        whole = vlm.family.prompt.whole(*request)
        if not vlm.family.takes_images:
            inputs = vlm.tokenizer(whole.text, return_tensors="pt")
        else:
            inputs = vlm.family.processor(text=[whole.text], images=list(whole.images), return_tensors="pt")
        inputs.pop("token_type_ids", None)
        output = vlm.model.generate(
            **inputs,
            max_new_tokens=5,
            do_sample=False,
            pad_token_id=vlm.tokenizer.pad_token_id,
            eos_token_id=vlm.family.end_token_ids(request.query),
            **settings,
        )
        texts.append(vlm.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return texts
