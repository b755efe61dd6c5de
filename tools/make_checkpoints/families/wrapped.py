"""Text parts of multimodal models, beside vision parts as small as transformers builds them."""

from families.common import EPSILON, ROPE_THETA, SIZE, WINDOW, llama_like, small
from families.mixtures import unbalance
from families.relatives import EXAONE4, MINISTRAL3
from families.routed import EXPERTS, LATENT, LLAMA4

TEXT = SIZE | {"rms_norm_eps": EPSILON, "rope_theta": ROPE_THETA}
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 2,
    "intermediate_size": 2,
    "num_attention_heads": 1,
    "num_hidden_layers": 1,
    "image_size": 4,
    "patch_size": 2,
}
CLIP = SIGLIP | {"model_type": "clip_vision_model", "projection_dim": 2}
MROPE = {"type": "mrope", "mrope_section": [1, 1, 1]}
QWEN_VISION = {
    "depth": 1,
    "hidden_size": 4,
    "out_hidden_size": 24,
    "intermediate_size": 3,
    "num_heads": 1,
    "patch_size": 2,
    "spatial_merge_size": 1,
    "temporal_patch_size": 1,
}
GLM_VISION = QWEN_VISION | {"image_size": 4}
QWEN3_VISION = QWEN_VISION | {"num_position_embeddings": 4, "deepstack_visual_indexes": [0]}


def text(model_type: str, **changes) -> dict:
    """A nested config: without what belongs to the outer one."""
    config = llama_like(model_type, "", **changes)
    return {key: value for key, value in config.items() if key not in ("architectures", "tie_word_embeddings")}


def wrapper(model_type: str, architecture: str, text_config: dict, vision: dict, **changes) -> dict:
    outer = {"architectures": [architecture], "model_type": model_type}
    return outer | {"text_config": text_config, "vision_config": vision} | changes


def kimi_name(name: str) -> str:
    """As published: transformers writes the decoder's layers under the vision part's name for them."""
    return name.replace("language_model.model.blocks.", "language_model.model.layers.")


ROWS = [
    small(
        "aya-vision",
        wrapper(
            "aya_vision",
            "AyaVisionForConditionalGeneration",
            text("cohere2", rms_norm_eps=None, sliding_window=WINDOW, layer_norm_eps=EPSILON, logit_scale=0.3)
            | {"layer_types": ["sliding_attention", "full_attention"]},
            SIGLIP,
        ),
    ),
    small(
        "cohere2-vision",
        wrapper(
            "cohere2_vision",
            "Cohere2VisionForConditionalGeneration",
            text("cohere2", rms_norm_eps=None, sliding_window=WINDOW, layer_norm_eps=EPSILON, logit_scale=0.3)
            | {"layer_types": ["sliding_attention", "full_attention"]},
            SIGLIP,
            alignment_intermediate_size=4,
        ),
    ),
    small(
        "exaone4-5",
        wrapper(
            "exaone4_5",
            "Exaone4_5_ForConditionalGeneration",
            {key: value for key, value in EXAONE4.items() if key not in ("architectures", "tie_word_embeddings")},
            QWEN_VISION | {"num_key_value_heads": 1, "fullatt_block_indexes": [0]},
            tie_word_embeddings=True,
        ),
    ),
    small(
        "glm4v",
        wrapper(
            "glm4v",
            "Glm4vForConditionalGeneration",
            text(
                "glm4v_text",
                num_attention_heads=3,
                num_key_value_heads=1,
                partial_rotary_factor=0.5,
                rope_scaling={"type": "default", "mrope_section": [1, 0, 1]},
            ),
            GLM_VISION,
        ),
    ),
    small(
        "glm4v-moe",
        wrapper(
            "glm4v_moe",
            "Glm4vMoeForConditionalGeneration",
            text(
                "glm4v_moe_text",
                num_hidden_layers=4,
                head_dim=8,
                attention_bias=True,
                partial_rotary_factor=0.5,
                first_k_dense_replace=2,
                rope_scaling={"type": "default", "mrope_section": [1, 0, 1]},
                **EXPERTS,
            ),
            GLM_VISION,
            tie_word_embeddings=True,
        ),
        plant=unbalance,
    ),
    small(
        "idefics3",
        wrapper(
            "idefics3",
            "Idefics3ForConditionalGeneration",
            text("llama"),
            SIGLIP | {"model_type": "idefics3_vision"},
            scale_factor=1,
        ),
    ),
    # The bias that text config asks for, and the head tied by default.
    small(
        "internvl",
        wrapper(
            "internvl",
            "InternVLForConditionalGeneration",
            text("qwen2"),
            SIGLIP | {"model_type": "internvl_vision", "image_size": [4, 4], "patch_size": [2, 2]},
            downsample_ratio=1.0,
        ),
    ),
    small(
        "kimi-k25",
        wrapper(
            "kimi_k25",
            "Kimi_K25ForConditionalGeneration",
            text("deepseek_v3", **LATENT, **EXPERTS) | {"first_k_dense_replace": 2},
            SIGLIP
            | {
                "model_type": "kimi_k25_vision",
                "hidden_size": 4,
                "pos_emb_height": 2,
                "pos_emb_width": 2,
                "pos_emb_time": 1,
                "merge_kernel_size": [1, 1],
            },
            projection_hidden_size=4,
            tie_word_embeddings=False,
        ),
        rename=kimi_name,
        plant=unbalance,
    ),
    # The flag in the text config ties as well.
    small(
        "llama4",
        wrapper(
            "llama4",
            "Llama4ForConditionalGeneration",
            {key: value for key, value in LLAMA4.items() if key not in ("architectures", "tie_word_embeddings")}
            | {"num_hidden_layers": 2, "no_rope_layers": [1, 0]},
            {
                "model_type": "llama4_vision_model",
                "hidden_size": 4,
                "intermediate_size": 16,
                "num_attention_heads": 1,
                "num_hidden_layers": 1,
                "image_size": 4,
                "patch_size": 2,
                "vision_output_dim": 2,
                "projector_input_dim": 2,
                "projector_output_dim": 2,
            },
        ),
        plant=unbalance,
    ),
    small(
        "llava",
        wrapper(
            "llava",
            "LlavaForConditionalGeneration",
            text("llama") | {"tie_word_embeddings": True},
            CLIP,
        ),
    ),
    small(
        "llava-next",
        wrapper(
            "llava_next",
            "LlavaNextForConditionalGeneration",
            # The flag in the text config does not tie here, nor does its factor on logits count.
            text("granite", logits_scaling=2.5, embedding_multiplier=3.0) | {"tie_word_embeddings": True},
            CLIP,
        ),
    ),
    small(
        "llava-next-video",
        wrapper("llava_next_video", "LlavaNextVideoForConditionalGeneration", text("mistral"), CLIP),
    ),
    small(
        "llava-onevision",
        wrapper("llava_onevision", "LlavaOnevisionForConditionalGeneration", text("qwen2"), SIGLIP),
    ),
    small(
        "mistral3",
        wrapper(
            "mistral3",
            "Mistral3ForConditionalGeneration",
            {key: value for key, value in MINISTRAL3.items() if key not in ("architectures", "tie_word_embeddings")},
            SIGLIP | {"model_type": "pixtral", "head_dim": 2},
            spatial_merge_size=1,
            tie_word_embeddings=False,
        ),
    ),
    # Published with all keys side by side.
    small(
        "qwen2-vl",
        llama_like("qwen2_vl", "Qwen2VLForConditionalGeneration", rope_scaling=MROPE, tie_word_embeddings=True)
        | {
            "use_sliding_window": False,
            "vision_config": {
                "depth": 1,
                "embed_dim": 4,
                "hidden_size": 24,
                "num_heads": 1,
                "patch_size": 2,
                "spatial_merge_size": 1,
                "temporal_patch_size": 1,
            },
        },
    ),
    small(
        "qwen2-5-vl",
        wrapper(
            "qwen2_5_vl",
            "Qwen2_5_VLForConditionalGeneration",
            text(
                "qwen2_5_vl_text",
                num_hidden_layers=4,
                rope_scaling=MROPE,
                use_sliding_window=True,
                sliding_window=WINDOW,
                max_window_layers=2,
            ),
            QWEN_VISION | {"fullatt_block_indexes": [0]},
        ),
    ),
    small(
        "qwen3-vl",
        wrapper(
            "qwen3_vl",
            "Qwen3VLForConditionalGeneration",
            text(
                "qwen3_vl_text",
                head_dim=8,
                rope_scaling={"rope_type": "default", "mrope_interleaved": True, "mrope_section": [2, 1, 1]},
            ),
            QWEN3_VISION,
            tie_word_embeddings=True,
        ),
    ),
    small(
        "qwen3-vl-moe",
        wrapper(
            "qwen3_vl_moe",
            "Qwen3VLMoeForConditionalGeneration",
            text(
                "qwen3_vl_moe_text",
                num_hidden_layers=4,
                head_dim=8,
                num_experts=5,
                num_experts_per_tok=2,
                moe_intermediate_size=11,
                mlp_only_layers=[1, 2],
                rope_scaling={"rope_type": "default", "mrope_interleaved": True, "mrope_section": [2, 1, 1]},
            ),
            QWEN3_VISION,
        ),
    ),
    small(
        "smolvlm",
        wrapper(
            "smolvlm",
            "SmolVLMForConditionalGeneration",
            text("llama"),
            SIGLIP | {"model_type": "smolvlm_vision"},
            scale_factor=1,
        ),
    ),
]
