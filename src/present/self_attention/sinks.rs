//! The strongest key of every head, for the page.

use crate::present::page;
use crate::{
    experiments::self_attention::{LayerAttention, SelfAttention, Sink},
    report::{
        html::{
            Chart, Section,
            chart::{Grid, GridRow, Notes},
        },
        table::{Align, Row, Table},
    },
};

/// Layers across, heads down: what the key with the largest sink mass receives. Without scripts a table of
/// the layers' strongest heads.
pub(super) fn section(result: &SelfAttention, tokens: &[String]) -> Option<Section> {
    let heads = result.layers.iter().map(|layer| layer.sinks.len()).max();
    let heads = heads.filter(|heads| *heads > 0)?;
    let rows = (0..heads).map(|head| GridRow {
        label: format!("head {head}"),
        values: by_layer(result, head, |sink| f64::from(sink.mass), f64::NAN),
        notes: by_layer(
            result,
            head,
            |sink| vec![("key".to_owned(), key(sink, tokens))],
            Notes::new(),
        ),
    });
    let grid = Grid {
        title: "Mean attention to the key that receives most".to_owned(),
        log: false,
        layers: result.layers.len(),
        rows: rows.collect(),
    };
    let section = page::table("The strongest key of each head", &strongest(result, tokens));
    Some(section.explored([Chart::Grid(grid)]))
}

fn by_layer<T: Clone>(
    result: &SelfAttention,
    head: usize,
    value: impl Fn(&Sink) -> T,
    none: T,
) -> Vec<T> {
    let of = |layer: &LayerAttention| {
        let mut sinks = layer.sinks.iter();
        let sink = sinks.find(|sink| sink.head == head);
        sink.map_or_else(|| none.clone(), &value)
    };
    result.layers.iter().map(of).collect()
}

fn key(sink: &Sink, tokens: &[String]) -> String {
    match sink.position {
        Some(position) => {
            let token = tokens.get(position).map_or("", String::as_str);
            format!("{token} at {position}")
        }
        None => "extra_kv".to_owned(),
    }
}

/// The head of each layer whose key receives most.
fn strongest(result: &SelfAttention, tokens: &[String]) -> Table {
    let mut table = Table::new([
        ("layer", Align::Right),
        ("head", Align::Right),
        ("attention", Align::Right),
        ("key", Align::Left),
    ]);
    for layer in &result.layers {
        let sinks = layer.sinks.iter();
        if let Some(sink) = sinks.max_by(|a, b| a.mass.total_cmp(&b.mass)) {
            table.push(Row::new([
                layer.layer.to_string(),
                sink.head.to_string(),
                format!("{:.3}", sink.mass),
                key(sink, tokens),
            ]));
        }
    }
    table
}
