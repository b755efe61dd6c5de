//! The two parts of the attention output, head by head, as a table.

use serde_json::json;

use crate::{
    experiments::self_attention::{HeadDecomposition, SelfAttention},
    report::{
        number::significant,
        records::Records,
        table::{Align, Row, Table},
    },
};

/// A row a head: for readers, and in full.
pub(super) fn sheet(result: &SelfAttention) -> (Table, Records) {
    let mut table = Table::new([
        ("layer", Align::Right),
        ("head", Align::Right),
        ("|attention|", Align::Right),
        ("|followed part|", Align::Right),
        ("|rest|", Align::Right),
        ("cosine", Align::Right),
    ]);
    let mut records = Records::new([
        "layer",
        "head",
        "norm_attention",
        "norm_followed",
        "norm_rest",
        "cosine",
    ]);
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), significant);
    for (layer, head) in heads(result) {
        table.push(Row::new([
            layer.to_string(),
            head.head.to_string(),
            shown(head.norm_attention),
            shown(head.norm_followed),
            shown(head.norm_rest),
            shown(head.cosine),
        ]));
        records.push(json!([
            layer,
            head.head,
            head.norm_attention,
            head.norm_followed,
            head.norm_rest,
            head.cosine,
        ]));
    }
    (table, records)
}

fn heads(result: &SelfAttention) -> impl Iterator<Item = (usize, &HeadDecomposition)> {
    result.layers.iter().flat_map(|layer| {
        let heads = layer.decomposition.iter().flat_map(|whole| &whole.heads);
        heads.map(|head| (layer.layer, head))
    })
}
