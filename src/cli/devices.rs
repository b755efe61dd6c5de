//! `massact devices`

use clap::Args;
use serde_json::json;

use crate::{backend::gpus, error::Result, report::run::Host};

/// What this machine has, and what massact can use of it.
#[derive(Debug, Args)]
pub(super) struct DevicesArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DevicesArgs) -> Result<()> {
    let host = Host::current();
    let cpu = host.cpu.unwrap_or_else(|| host.arch.clone());
    // The level's name without the list of the features that make it up.
    let simd = format!("{:?}", pulp::Arch::new());
    let simd = simd.split('(').next().unwrap_or_default().to_owned();
    let threads = rayon::current_num_threads();
    let gpus = gpus::list();
    if args.json {
        let cards: Vec<_> = gpus
            .iter()
            .flatten()
            .map(|gpu| {
                json!({
                    "device": format!("cuda:{}", gpu.index),
                    "name": gpu.name,
                    "compute_capability": format!("{}.{}", gpu.capability.0, gpu.capability.1),
                    "memory_bytes": gpu.memory_bytes,
                    "usable": false,
                })
            })
            .collect();
        return super::print_json(&json!({
            "schema": "massact/devices/1",
            "cpu": { "device": "cpu", "name": cpu, "threads": threads, "simd": simd, "usable": true },
            "gpus": cards,
            "gpus_missing_because": gpus.err(),
        }));
    }
    super::print_line(&format!(
        "cpu      {cpu}, {threads} threads, SIMD level {simd}, float32 (used)"
    ))?;
    match gpus {
        Ok(cards) => {
            for gpu in &cards {
                super::print_line(&format!(
                    "cuda:{}   {}, {:.1} GiB, compute capability {}.{} (not used: this build has no CUDA backend)",
                    gpu.index,
                    gpu.name,
                    gpu.memory_bytes as f64 / f64::from(1 << 30),
                    gpu.capability.0,
                    gpu.capability.1
                ))?;
            }
            if cards.is_empty() {
                super::print_line("cuda     the driver is installed, but sees no card")?;
            }
        }
        Err(reason) => super::print_line(&format!("cuda     none: {reason}"))?,
    }
    Ok(())
}
