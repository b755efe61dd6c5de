//! Keys of `quantization_config` that do not change what the weights are: how they were found, how a
//! library runs them, and what the tensors themselves say.
#![forbid(unsafe_code)]

#[rustfmt::skip]
const WITHOUT_EFFECT: &[&str] = &[
    // Which modules are packed: the tensors say that.
    "exclude_modules", "ignore", "ignored_layers", "inside_layer_modules", "lm_head",
    "llm_int8_skip_modules", "modules_in_block_to_quantize", "modules_to_convert",
    "modules_to_not_convert", "block_name_to_quantize", "module_name_preceding_first_block",
    "quantized_layers", "targets", "to_quant_block_names",
    // Types and formats that the tensors have.
    "bnb_4bit_quant_storage", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant", "data_type", "fmt",
    "has_zero_point", "is_checkpoint_fp8_serialized", "load_in_4bit", "load_in_8bit", "_load_in_4bit",
    "_load_in_8bit", "pack_dtype", "pre_quant_scale", "quant_method", "scale_dtype", "scale_fmt", "type",
    "weight_dtype", "zp_dtype",
    // Settings that another setting leaves without effect, or that a method does not have.
    "actorder", "bits", "block_structure", "config_groups", "desc_act", "dynamic", "format", "group_size",
    "q_group_size", "quant_type", "strategy", "sym", "symmetric", "version", "w_bit",
    "weight_block_size", "zero_point",
    // Activations and the key/value cache, which are not quantised here; that they are is said.
    "act_bits", "act_data_type", "act_dynamic", "act_group_size", "act_sym", "activation_scale_ub",
    "activation_scheme", "input_activations", "kv_cache_quant_algo", "kv_cache_scheme",
    "llm_int8_threshold", "output_activations",
    // How a library runs them.
    "backend", "bnb_4bit_compute_dtype", "cache_block_outputs", "dequantize", "disable_exllama",
    "do_fuse", "exllama_config", "fuse_max_seq_len", "llm_int8_enable_fp32_cpu_offload",
    "llm_int8_has_fp16_weight", "max_input_length", "modules_to_fuse", "run_compressed", "use_cuda_fp16",
    "use_exllama", "use_optimized_inference",
    // How they were found.
    "act_group_aware", "amp", "autoround_version", "batch_size", "damp_auto_increment", "damp_percent",
    "dataset", "device", "enable_minmax_tuning", "enable_norm_bias_tuning", "enable_quanted_input",
    "failsafe", "global_compression_ratio", "gptaq", "gradient_accumulate_steps", "hyb_act", "iters",
    "low_gpu_mem_usage", "lr", "meta", "minmax_lr", "mock_quantization", "model_file_base_name",
    "model_name_or_path", "model_seqlen", "mse", "not_use_best_mse", "nsamples", "observer",
    "observer_kwargs", "offload_to_disk", "offload_to_disk_path", "pad_token_id", "parallel_packing",
    "producer", "quantization_status", "quantizer", "registry_requires_subclass", "seqlen",
    "sparsity_structure", "global_sparsity", "static_groups", "tokenizer", "true_sequential", "v2",
    "v2_alpha", "v2_memory_device", "provider",
];

/// Whether the key at `path`, as `weights.observer`, of `quantization_config` has no effect.
pub(in crate::model) fn without_effect(path: &str) -> bool {
    // Below these are names of modules and of settings that count nowhere else.
    let inside = ["dynamic.", "input_activations.", "output_activations."];
    let last = path.rsplit('.').next().unwrap_or(path);
    inside.iter().any(|place| path.contains(place)) || WITHOUT_EFFECT.contains(&last)
}
