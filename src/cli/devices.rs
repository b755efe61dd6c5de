//! `massact devices`

use clap::Args;
use serde_json::json;

use crate::{
    backend::cuda::driver::{Card, NO_DRIVER, Requirements},
    error::Result,
    report::run::Host,
};

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
    let cuda = Requirements::look();
    let missing = cuda.missing();
    if args.json {
        let card = |card: &Card| {
            let unusable = card.unsupported();
            let unusable = unusable.or_else(|| missing.as_ref().map(ToString::to_string));
            json!({
                "device": format!("cuda:{}", card.index),
                "name": card.name,
                "compute_capability": format!("{}.{}", card.capability.0, card.capability.1),
                "memory_bytes": card.memory_bytes,
                "usable": unusable.is_none(),
                "unusable_because": unusable,
            })
        };
        let version = |&(major, minor): &(u32, u32)| format!("{major}.{minor}");
        let cublas_lt = cuda.cublas_lt.map(|found| match found {
            Ok(path) => json!({ "found": path }),
            Err(reason) => json!({ "missing_because": reason }),
        });
        return super::print_json(&json!({
            "schema": "massact/devices/1",
            "cpu": { "device": "cpu", "name": cpu, "threads": threads, "simd": simd, "usable": true },
            "gpus": cuda.cards.iter().map(card).collect::<Vec<_>>(),
            "gpus_together": cuda.several().into_iter().map(|(device, _)| device).collect::<Vec<_>>(),
            "gpus_missing_because": missing.map(|missing| missing.to_string()),
            "kernels": cuda.kernels.ok(),
            "driver_cuda_version": cuda.driver.as_ref().and_then(|driver| driver.as_ref().ok()).map(version),
            "cublas_lt": cublas_lt,
        }));
    }
    super::print_line(&format!(
        "cpu      {cpu}, {threads} threads, SIMD level {simd}, float32"
    ))?;
    for card in &cuda.cards {
        let unusable = match card.unsupported() {
            Some(reason) => format!(" (not used: {reason})"),
            None => String::new(),
        };
        super::print_line(&format!(
            "cuda:{}   {}, {:.1} GiB, compute capability {}.{}{unusable}",
            card.index,
            card.name,
            card.memory_bytes as f64 / f64::from(1 << 30),
            card.capability.0,
            card.capability.1
        ))?;
    }
    for (device, name) in cuda.several() {
        super::print_line(&format!("{device} {name}, side by side"))?;
    }
    super::print_line(&match cuda.kernels {
        Ok(compiler) => format!("kernels  built in, by {compiler}"),
        Err(reason) => format!("kernels  none: {reason}"),
    })?;
    super::print_line(&match &cuda.driver {
        Some(Ok((major, minor))) => format!("driver   supports CUDA {major}.{minor}"),
        Some(Err(reason)) => format!("driver   unusable: {reason}"),
        None => format!("driver   none: {NO_DRIVER}"),
    })?;
    match cuda.cublas_lt {
        Some(Ok(path)) => super::print_line(&format!("cuBLASLt {}", path.display()))?,
        Some(Err(reason)) => super::print_line(&format!("cuBLASLt none: {reason}"))?,
        None => {}
    }
    if let Some(missing) = missing {
        super::print_line(&format!("no card is used: {missing}"))?;
    }
    Ok(())
}
