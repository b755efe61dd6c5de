//! `--device`, `--dtype` and their like: where a run computes, and in which types.

use std::rc::Rc;

use super::{
    args::{DTypeArg, DeviceArgs},
    budget::{self, Bytes},
};
use crate::{
    backend::{
        Precision, Tensors,
        cpu::Cpu,
        cuda::{
            Cuda,
            driver::{Driver, Options, Requirements},
        },
    },
    error::{Error, Result},
    model::{Model, dtype::DType},
    progress::Progress,
};

/// Where a run computes.
pub(super) enum Device {
    Cpu(Cpu),
    Cuda(Box<Cuda<Driver>>),
}

/// Runs the lines with `$backend` bound to whichever backend the device is. They are compiled for
/// each.
macro_rules! on_device {
    ($device:expr, $backend:ident => $lines:expr) => {
        match $device {
            $crate::cli::device::Device::Cpu($backend) => $lines,
            $crate::cli::device::Device::Cuda(boxed) => {
                let $backend = &**boxed;
                $lines
            }
        }
    };
}
pub(super) use on_device;

/// A device that is there, before it is known in which type it computes; any number of models may
/// run on it.
pub(super) enum Opened {
    Cpu,
    Cuda(Rc<Driver>),
}

/// Checks the arguments and opens the device. `auto` is the first card, where all that it needs is
/// there; what is missing beside a card is said.
pub(super) fn open(args: &DeviceArgs, progress: Progress) -> Result<Opened> {
    let opened = open_named(&args.device, Options { tf32: args.tf32 }, progress)?;
    if matches!(opened, Opened::Cpu) {
        check_cpu(args)?;
    }
    Ok(opened)
}

/// Opens the device of this name, for work that has types of its own.
pub(super) fn open_named(device: &str, options: Options, progress: Progress) -> Result<Opened> {
    let opened = match wanted(device)? {
        Wanted::Cpu => None,
        Wanted::Cuda(index) => {
            let card = Requirements::look().card(index)?;
            Some(Driver::open(card, options)?)
        }
        Wanted::Auto => automatic(options, progress),
    };
    Ok(opened.map_or(Opened::Cpu, |driver| Opened::Cuda(Rc::new(driver))))
}

/// What `--device` asks for.
pub(super) enum Wanted {
    Auto,
    Cpu,
    Cuda(usize),
}

/// Reads `--device`.
pub(super) fn wanted(device: &str) -> Result<Wanted> {
    let unknown = || {
        Error::usage(format!("--device {device}"), "no such device")
            .remedy("use auto, cpu, cuda or cuda:N; `massact devices` lists them")
    };
    match device {
        "auto" => Ok(Wanted::Auto),
        "cpu" => Ok(Wanted::Cpu),
        "cuda" => Ok(Wanted::Cuda(0)),
        _ => {
            let index = device.strip_prefix("cuda:").ok_or_else(unknown)?;
            index.parse().map(Wanted::Cuda).map_err(|_| unknown())
        }
    }
}

/// The first card that can be used.
fn automatic(options: Options, progress: Progress) -> Option<Driver> {
    let found = Requirements::look();
    if !found.card_expected() {
        return None;
    }
    match found.first().and_then(|card| Driver::open(card, options)) {
        Ok(driver) => Some(driver),
        Err(missing) => {
            // A user with a card would wonder.
            progress.notice(&format!("computing on the CPU: {missing}"));
            None
        }
    }
}

fn check_cpu(args: &DeviceArgs) -> Result<()> {
    if args.tf32 {
        return Err(Error::usage(
            "--tf32",
            "TF32 is arithmetic of NVIDIA cards, and this run is on the CPU",
        )
        .remedy("leave it out, or use --device cuda"));
    }
    for (flag, dtype) in [
        ("--dtype", args.dtype),
        ("--residual-dtype", args.residual_dtype),
    ] {
        if let DTypeArg::Bfloat16 | DTypeArg::Float16 = dtype {
            return Err(
                Error::usage(flag, "the CPU computes in float32 only").remedy(format!(
                    "use {flag} auto; checkpoints of every dtype are read"
                )),
            );
        }
    }
    Ok(())
}

impl Opened {
    /// The backend for a model: `--dtype auto` is float32 on the CPU, and on a card the type that the
    /// checkpoint is stored in.
    pub(super) fn for_model(&self, args: &DeviceArgs, model: &Model) -> Result<Device> {
        let driver = match self {
            Self::Cpu => return Ok(Device::Cpu(Cpu::new())),
            Self::Cuda(driver) => driver,
        };
        let dtype = match args.dtype.stated() {
            Some(dtype) => dtype,
            None => model.stored_dtype()?,
        };
        if args.tf32 && dtype != DType::Float32 {
            return Err(Error::usage(
                "--tf32",
                format!("it is about float32 products, and this run is in {dtype}"),
            )
            .remedy("leave it out, or use --dtype float32"));
        }
        let residual = args.residual_dtype.stated().unwrap_or(dtype);
        let precision = Precision::new(dtype, residual)?;
        let cuda = Cuda::sharing(Rc::clone(driver), precision).keeping_weights();
        Ok(Device::Cuda(Box::new(cuda)))
    }

    /// The backend for work on stored tensors, whose types are their own.
    pub(super) fn for_files(&self) -> Device {
        match self {
            Self::Cpu => Device::Cpu(Cpu::new()),
            Self::Cuda(driver) => {
                let cuda = Cuda::sharing(Rc::clone(driver), DType::Float32);
                Device::Cuda(Box::new(cuda))
            }
        }
    }
}

impl Device {
    /// `cpu` or `cuda:N`, as `--device` takes it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Cpu(_) => "cpu".to_owned(),
            Self::Cuda(cuda) => format!("cuda:{}", cuda.device().card().index),
        }
    }

    /// The card's product name.
    pub(super) fn card(&self) -> Option<String> {
        match self {
            Self::Cpu(_) => None,
            Self::Cuda(cuda) => Some(cuda.device().card().name.clone()),
        }
    }

    /// What the residual streams and one layer may take: as asked for, or a share of what is free where
    /// they are.
    pub(super) fn memory_budget(&self, asked: Option<Bytes>) -> u64 {
        match self {
            Self::Cpu(_) => budget::budget(asked, budget::available()),
            Self::Cuda(cuda) => budget::budget(asked, Some(cuda.activation_bytes())),
        }
    }

    /// The type of the arithmetic, as run.json says it.
    pub(super) fn arithmetic(&self) -> String {
        match self {
            Self::Cpu(_) => DType::Float32.to_string(),
            Self::Cuda(cuda) if cuda.device().options().tf32 => "tf32".to_owned(),
            Self::Cuda(cuda) => cuda.precision().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_name() {
        assert!(matches!(wanted("auto"), Ok(Wanted::Auto)));
        assert!(matches!(wanted("cpu"), Ok(Wanted::Cpu)));
        assert!(matches!(wanted("cuda"), Ok(Wanted::Cuda(0))));
        assert!(matches!(wanted("cuda:3"), Ok(Wanted::Cuda(3))));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0"] {
            let error = wanted(wrong).err().expect("no device");
            assert_eq!(error.exit_code(), 2, "{wrong}");
        }
    }
}
