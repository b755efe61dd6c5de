//! What the names of an adapter's tensors say.
#![forbid(unsafe_code)]

/// What a tensor is to its module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// `[rank, in]`
    A,
    /// `[out, rank]`
    B,
    /// Of an embedding: `[rank, entries]`.
    TableA,
    /// Of an embedding: `[width, rank]`.
    TableB,
    /// A tensor of the module itself, by its name there.
    Whole(String),
}

/// Before the base's own names.
const WRAPPERS: [&str; 2] = ["base_model.model.", "base_model."];

/// Module, as the base calls it, and kind; else why it is not read. The library leaves its own name of an
/// adapter (`default`) out of the file; who saves the state by hand does not.
pub(super) fn split(name: &str) -> Result<(String, Kind), String> {
    let mut wrappers = WRAPPERS.iter();
    let inner = wrappers.find_map(|wrapper| name.strip_prefix(wrapper));
    let inner = inner.unwrap_or(name);
    for (part, kind, weighted) in [
        (".lora_A", Kind::A, true),
        (".lora_B", Kind::B, true),
        (".lora_embedding_A", Kind::TableA, false),
        (".lora_embedding_B", Kind::TableB, false),
    ] {
        let Some((module, end)) = inner.rsplit_once(part) else {
            continue;
        };
        let end = end.strip_prefix(".default").unwrap_or(end);
        return match (weighted, end) {
            (true, ".weight") | (false, "") => Ok((module.to_owned(), kind)),
            (true, ".bias") => {
                Err("massact does not compute biases of the added product".to_owned())
            }
            _ => Err("not a name that an adapter has".to_owned()),
        };
    }
    if inner.contains(".lora_magnitude_vector") {
        return Err("massact does not compute DoRA".to_owned());
    }
    if let Some(part) = inner.split('.').find(|part| part.starts_with("lora_")) {
        return Err(format!("massact does not know what `{part}` does"));
    }
    let inner = inner.replace(".modules_to_save.default.", ".");
    let inner = inner.replace(".modules_to_save.", ".");
    let inner = inner.replace(".base_layer.", ".");
    match inner.rsplit_once('.') {
        Some((module, part)) => Ok((module.to_owned(), Kind::Whole(part.to_owned()))),
        None => Err("it names no module".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names() {
        let whole = |part: &str| Kind::Whole(part.to_owned());
        for (name, module, kind) in [
            ("base_model.model.m.0.q.lora_A.weight", "m.0.q", Kind::A),
            (
                "base_model.model.m.0.q.lora_B.default.weight",
                "m.0.q",
                Kind::B,
            ),
            (
                "base_model.model.t.wte.lora_embedding_A",
                "t.wte",
                Kind::TableA,
            ),
            ("t.wte.lora_embedding_B.default", "t.wte", Kind::TableB),
            (
                "base_model.model.lm_head.weight",
                "lm_head",
                whole("weight"),
            ),
            ("base_model.model.m.q.base_layer.bias", "m.q", whole("bias")),
            (
                "base_model.model.m.modules_to_save.default.weight",
                "m",
                whole("weight"),
            ),
        ] {
            assert_eq!(split(name), Ok((module.to_owned(), kind)), "{name}");
        }
        for name in [
            "base_model.model.m.q.lora_B.bias",
            "base_model.model.m.q.lora_magnitude_vector",
            "base_model.model.m.q.lora_A.other.weight",
            "base_model.model.m.q.lora_diag",
            "x",
        ] {
            assert!(split(name).is_err(), "{name}");
        }
    }
}
