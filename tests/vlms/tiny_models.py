# SPDX-FileCopyrightText: 2026 The leverplus_trl team
# SPDX-License-Identifier: Apache-2.0

"""Random models of a few thousand weights, of many families."""

from collections.abc import Callable

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProcessorMixin,
    Qwen2VLImageProcessorPil,
    SmolVLMImageProcessorPil,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from vlms.made_examples import ANSWERS, ragged_examples

from leverplus_trl.tasks import TaskArguments, make_task
from leverplus_trl.vlms import FAMILIES, CausalLM, ChatFamily, TransformersVLM, VLMArguments
from leverplus_trl.vlms.qwen2_5_vl import PROCESSORS, SPECIAL_TOKENS


TEXTS = [
    "what colour is it ?",
    "what shape is it ?",
    "red circle",
    "blue star",
    "Assistant: User: Question Answer",
] * 9

# Like Qwen2.5's: it writes a system message nobody asked for.
CHATML = (
    "{% for message in messages %}{% if loop.first and message.role != 'system' %}<|im_start|>system\nBe "
    "helpful.<|im_end|>\n{% "
    "endif %}<|im_start|>{{ message.role }}\n{% if message.content is string %}{{ message.content }}{% else %}{% for "
    "part in message.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}{% "
    "endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like LLaVA's: the answer stands behind a space that the generation prompt does not have.
LLAVA = (
    "{% for message in messages %}{{ message.role | upper }}: "
    "{% "
    "for part in message.content %}{% if part.type == 'image' %}<image>\n{% else %}{{ part.text }}{% endif %}{% "
    "endfor %}{% if message.role == 'user' %} {% else %}<|im_end|>{% endif %}{% endfor %}{% if add_generation_prompt "
    "%}ASSISTANT:{% endif %}"
)


# Like Qwen-VL's, without the system message.
QWEN = CHATML.replace("<image>", "<|vision_start|><|image_pad|><|vision_end|>").replace(
    "{% if loop.first and message.role != 'system' %}<|im_start|>system\nBe helpful.<|im_end|>\n{% endif %}", ""
)


def byte_tokenizer(chat_template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """Byte-level BPE, for which pieces tokenise as the whole does wherever they meet at a special token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>", "<image>", "<fake_token_around_image>", "<global-img>"]
    special += [
        "<end_of_utterance>",
        *SPECIAL_TOKENS.values(),
        *(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)),
    ]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        additional_special_tokens=special[3:],
        chat_template=chat_template,
    )


def prefix_space_tokenizer() -> PreTrainedTokenizerFast:
    """Like sentencepiece: it puts a space before every text it is given, so pieces do not add up to the whole."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>"])
    tokenizer.train_from_iterator([*TEXTS, "\n"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="</s>", eos_token="</s>", unk_token="<unk>")


def llama2_tokenizer() -> PreTrainedTokenizerFast:
    """Like Llama 2's: spaces become part of the text's first word, alone or not, and a start token is added."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "<s>", "</s>"])
    tokenizer.train_from_iterator([*TEXTS, "it ? blue star\n"], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="</s>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _sizes(tokenizer: PreTrainedTokenizerFast, **more) -> dict:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "initializer_range": 0.5,  # so that a random model has opinions
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.eos_token_id,
        **more,
    }


def _text_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(**_sizes(tokenizer))


def tiny_causal_lm(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(_text_config(tokenizer)).eval()


#: Language models by name: model type, what its config has beside the sizes, and whether it lets prefixes be shared.
TEXT_MODELS = {
    "llama": ("llama", {}, True),
    "llama_one_key_head": ("llama", {"num_key_value_heads": 1}, True),
    "llama_wide_heads": ("llama", {"num_key_value_heads": 4, "head_dim": 24}, True),
    "gpt2": ("gpt2", {}, True),  # learned positions
    "gpt2_scaled_by_layer": ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, True),
    "gpt_bigcode": ("gpt_bigcode", {"multi_query": True}, True),
    "opt": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32}, True),  # positions that start at 2
    "opt_projected": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": False}, True),
    "gpt_neox": ("gpt_neox", {}, True),
    "diffllama": ("diffllama", {}, False),  # an attention of its own
    "phi": ("phi", {}, True),
    "phi3": ("phi3", {}, True),
    "qwen2": ("qwen2", {"use_sliding_window": False}, True),
    "qwen3": ("qwen3", {"head_dim": 16}, True),
    "yarn": ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}, True),
    "mistral": ("mistral", {"sliding_window": None}, True),
    "mistral_sliding": ("mistral", {"sliding_window": 16}, False),
    "qwen2_sliding": ("qwen2", {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}, False),
    "gemma2": (
        "gemma2",
        {"tie_word_embeddings": False, "head_dim": 8, "sliding_window": 16, "attn_logit_softcapping": 5.0},
        False,
    ),
    "gemma3": ("gemma3_text", {"tie_word_embeddings": False, "head_dim": 8, "sliding_window": 16}, False),
    # Another rotation beyond 64 tokens, for all of a prompt.
    "phi3_long": (
        "phi3",
        {
            "original_max_position_embeddings": 64,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0, 1.0, 1.0, 1.0],
                "long_factor": [1.0, 2.0, 3.0, 4.0],
                "original_max_position_embeddings": 64,
            },
        },
        False,
    ),
    "bloom": ("bloom", {}, False),
    "mpt": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2}, False),
    "falcon": ("falcon", {"multi_query": True, "new_decoder_architecture": False}, False),
    "mamba": ("mamba", {"state_size": 4}, False),
    "bamba": ("bamba", {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_state": 8}, False),
}


def tiny_text_model(name: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    kind, more, _ = TEXT_MODELS[name]
    sizes = _sizes(tokenizer, **more)
    if not hasattr(CONFIG_MAPPING[kind](), "num_key_value_heads"):
        del sizes["num_key_value_heads"]
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**sizes)).eval()


def tiny_llava() -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    tokenizer = byte_tokenizer(LLAVA)
    image = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=28,
            patch_size=14,
        ),
        text_config=_text_config(tokenizer),
        image_token_index=image,
        vision_feature_layer=-1,
        image_seq_length=4,
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=LLAVA,
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    return LlavaForConditionalGeneration(config).eval(), processor


def _tiny_idefics(kind: str, images: ProcessorMixin) -> tuple[PreTrainedModel, Idefics3Processor]:
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 28,
            "patch_size": 7,
        },
        text_config=_text_config(tokenizer).to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = Idefics3Processor(image_processor=images, tokenizer=tokenizer, image_seq_len=4, chat_template=CHATML)
    return AutoModelForImageTextToText.from_config(config).eval(), processor


def tiny_idefics3() -> tuple[Idefics3ForConditionalGeneration, Idefics3Processor]:
    """Images of 56 pixels are shown in five pieces, of which the last is the whole."""
    images = Idefics3ImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    return _tiny_idefics("idefics3", images)


def tiny_smolvlm() -> tuple[PreTrainedModel, Idefics3Processor]:
    """Its own processor needs torchvision for videos; what it makes of images and text is Idefics3's."""
    images = SmolVLMImageProcessorPil(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    return _tiny_idefics("smolvlm", images)


def _tiny_qwen(kind: str, vision: dict, text: dict, patch_size: int = 14) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Images of any shape, with sides rounded to two patches; each two by two patches become a token."""
    tokenizer = byte_tokenizer(QWEN)
    image, video, start, end = tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS.values()))
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    sizes = {"hidden_size": 32, "num_heads": 2, "patch_size": patch_size, "spatial_merge_size": 2}
    config = CONFIG_MAPPING[kind](
        text_config=_sizes(tokenizer, hidden_size=64, rope_parameters=rope, **text),
        vision_config={"initializer_range": 0.3, **sizes, **vision},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    unit = 2 * patch_size
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": unit**2, "longest_edge": 16 * unit**2}, patch_size=patch_size, merge_size=2
    )
    processor = PROCESSORS[type(config)](images, tokenizer, chat_template=QWEN)
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(config).eval(), processor


def tiny_qwen2_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    return _tiny_qwen("qwen2_vl", {"depth": 2, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}, {})


def tiny_qwen2_5_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Its first vision layer sees windows of 56 pixels."""
    vision = {"depth": 2, "intermediate_size": 64, "out_hidden_size": 64, "window_size": 56}
    return _tiny_qwen("qwen2_5_vl", {**vision, "fullatt_block_indexes": [1]}, {})


def tiny_qwen3_vl() -> tuple[PreTrainedModel, ProcessorMixin]:
    """Two of its vision layers also speak to the first two layers of text."""
    vision = {"depth": 3, "intermediate_size": 64, "out_hidden_size": 64, "num_position_embeddings": 16}
    return _tiny_qwen("qwen3_vl", {**vision, "deepstack_visual_indexes": [0, 1]}, {"head_dim": 16}, patch_size=16)


#: Vision-language models by name, and whether they let prefixes be shared.
VLMS: dict[str, tuple[Callable[[], tuple[PreTrainedModel, ProcessorMixin]], bool]] = {
    "llava": (tiny_llava, True),
    "idefics3": (tiny_idefics3, True),
    "smolvlm": (tiny_smolvlm, True),
    "qwen2_vl": (tiny_qwen2_vl, True),
    "qwen2_5_vl": (tiny_qwen2_5_vl, True),
    "qwen3_vl": (tiny_qwen3_vl, True),
}


def make_vlm(name: str, dtype: str = "float32", **arguments) -> TransformersVLM:
    """One of `TEXT_MODELS` or `VLMS`, behind the interface of all."""
    arguments = VLMArguments(vlm=name, dtype=dtype, **{"max_batch_tokens": 400, "memory_mb": 64, **arguments})
    if name in TEXT_MODELS:
        tokenizer = byte_tokenizer()
        task = make_task(TaskArguments(task="text_classification", labels=ANSWERS, max_new_tokens=5))
        model = tiny_text_model(name, tokenizer)
        return CausalLM(model.to(getattr(torch, dtype)), tokenizer, task, arguments)
    model, processor = VLMS[name][0]()
    task = make_task(TaskArguments(metric="exact_match", max_new_tokens=5))
    family = FAMILIES.get(model.config.model_type, ChatFamily)
    return TransformersVLM(family(model.to(getattr(torch, dtype)), processor, task, arguments))


def examples_for(vlm: TransformersVLM, count: int = 8, seed: int = 0) -> list[dict]:
    """Examples with images of several sizes, if it can see."""
    examples = ragged_examples(count, seed)
    return examples if vlm.family.takes_images else [{**example, "image": None} for example in examples]
