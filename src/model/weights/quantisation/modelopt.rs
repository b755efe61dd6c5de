//! ModelOpt: FP8 with `X.weight_scale`, and NVFP4 with `X.weight_scale_2` beside it.
#![forbid(unsafe_code)]

use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};

use super::{
    KEY, described, fp8,
    parts::{self, Packer, refuse},
};
use crate::{
    error::{Error, Result},
    files,
    model::{
        config::Config,
        weights::{
            encodings::{Encoding, Global, Nvfp4},
            store::{Packing, WeightStore},
        },
    },
};

/// Where ModelOpt says how it packed, if not in config.json.
pub(crate) const FILE: &str = "hf_quant_config.json";

const ALGORITHMS: [&str; 4] = [
    "FP8",
    "FP8_PER_CHANNEL_PER_TOKEN",
    "NVFP4",
    "MIXED_PRECISION",
];

const UNREAD: &str = "massact reads FP8 and NVFP4 of ModelOpt";

/// The config, with what lies beside it if it says nothing of packing itself.
pub(crate) fn beside(config: Config, folder: &Path) -> Result<Config> {
    let path = folder.join(FILE);
    if config.has(KEY) || described(&config)?.is_some() || !path.is_file() {
        return Ok(config);
    }
    let text =
        files::read(&path, files::DESCRIPTION).map_err(|error| Error::unread(&path, error))?;
    let parsed = crate::model::json::parse(&text);
    let parsed: Value = parsed.map_err(|error| {
        Error::new(path.display(), format!("not valid JSON: {error}"))
            .remedy("correct it, or take the file of the original model")
    })?;
    let algorithm = &parsed["quantization"]["quant_algo"];
    if algorithm.is_null() {
        return Ok(config);
    }
    if !algorithm
        .as_str()
        .is_some_and(|name| ALGORITHMS.contains(&name))
    {
        return Err(Error::new(
            path.display(),
            format!("`quantization.quant_algo` is {algorithm}: {UNREAD}"),
        )
        .remedy(parts::IN_16_BITS));
    }
    let section = json!({ "quant_method": "modelopt", "quant_algo": algorithm });
    Ok(config.with(KEY, section))
}

pub(super) fn recognise(weights: &mut WeightStore, section: &Config) -> Result<Option<Packing>> {
    // As in its own file, or one level up.
    let nested = section.section("quantization")?;
    let section = nested.as_ref().unwrap_or(section);
    let algorithm = section.text_or("quant_algo", "MIXED_PRECISION")?;
    if !ALGORITHMS.contains(&algorithm) {
        return Err(refuse("quant_algo", format_args!("`{algorithm}`"), UNREAD));
    }
    let mut packer = Packer::new(weights);
    packer.refuse_any(
        ".pre_quant_scale",
        "multiplies the inputs of a matrix, which massact does not compute",
    )?;
    for name in packer.of_types(&[Dtype::U8]) {
        let codes = packer.part(&name, &name)?;
        let scales = packer.part(&format!("{name}_scale"), &name)?;
        let global = packer.part(&format!("{name}_scale_2"), &name)?;
        let (encoding, shape) = Nvfp4::new(&name, codes, scales, global, Global::Multiplies)?;
        packer.pack(name, shape, Encoding::Nvfp4(encoding));
    }
    fp8::pack(&mut packer, None)?;
    Ok(packer.packing("ModelOpt", true))
}
