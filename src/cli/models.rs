//! `massact models`

use clap::Args;
use serde_json::json;

use crate::{
    error::Result,
    model::{demo, families::FAMILIES},
    report::table::{Align, Row, Table},
};

/// The model families massact runs, and the built-in checkpoints.
#[derive(Debug, Args)]
pub(super) struct ModelsArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ModelsArgs) -> Result<()> {
    if args.json {
        let families: Vec<_> = FAMILIES
            .iter()
            .map(|family| {
                json!({
                    "model_type": family.model_type,
                    "example": family.example,
                    "notes": family.notes,
                })
            })
            .collect();
        let built_in: Vec<_> = demo::NAMES
            .iter()
            .map(|name| json!({ "name": name, "notes": demo::notes(name) }))
            .collect();
        return super::print_json(&json!({
            "schema": "massact/models/1",
            "families": families,
            "built_in": built_in,
        }));
    }
    let mut table = Table::new([
        ("model_type", Align::Left),
        ("example", Align::Left),
        ("what it has", Align::Left),
    ]);
    for family in FAMILIES {
        table.push(Row::new([family.model_type, family.example, family.notes]));
    }
    table.print()?;
    super::print_line("\nBuilt in:")?;
    for name in demo::NAMES {
        super::print_line(&format!("  {name}: {}", demo::notes(name)))?;
    }
    Ok(())
}
