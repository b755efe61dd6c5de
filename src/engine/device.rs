//! The device that a run computes on, before it is known which model runs and in which types.
#![forbid(unsafe_code)]

use std::{fmt, path::PathBuf, rc::Rc};

use crate::{
    backend::{
        Precision,
        cpu::Cpu,
        cuda::driver::{Card, Driver, Options, Requirements},
    },
    error::{Error, Result},
    model::{Model, dtype::DType},
    progress::Progress,
};

/// An open device; any number of models may run on it.
#[derive(Clone)]
pub enum Device {
    /// The processor.
    Cpu,
    /// A card.
    Cuda(Rc<Driver>),
}

/// The types that a run computes in, as far as they are stated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Types {
    /// Of the arithmetic: on a card the type that the checkpoint is stored in, if not stated.
    pub arithmetic: Option<DType>,
    /// Of the residual stream: the arithmetic's, if not stated.
    pub residual: Option<DType>,
    /// Float32 products in TF32.
    pub tf32: bool,
}

/// Where a session computes, in words that other programs and people read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// The card's product name.
    pub card: Option<String>,
    /// Whether float32 products are computed in TF32.
    pub tf32: bool,
}

impl Place {
    /// The processor.
    pub fn cpu() -> Self {
        Self {
            device: "cpu".to_owned(),
            card: None,
            tf32: false,
        }
    }

    /// `the CPU`, or the card's name.
    pub fn name(&self) -> &str {
        self.card.as_deref().unwrap_or("the CPU")
    }

    /// The type of the arithmetic: `bfloat16 with a residual stream in float32`, `tf32`.
    pub fn arithmetic(&self, precision: Precision) -> String {
        if self.tf32 {
            return "tf32".to_owned();
        }
        precision.to_string()
    }

    /// `bfloat16 on NVIDIA H100, float32 stream`
    pub(super) fn computed_in(&self, precision: Precision) -> String {
        let (arithmetic, residual) = (precision.arithmetic(), precision.residual());
        let mut text = if self.tf32 {
            format!("tf32 on {}", self.name())
        } else {
            format!("{arithmetic} on {}", self.name())
        };
        if residual != arithmetic {
            text.push_str(&format!(", {residual} stream"));
        }
        text
    }
}

impl Device {
    /// Opens what `--device` names; `auto` is the first card, where all that it needs is there, and
    /// what is missing beside a card is said. Refuses types that the device does not compute in.
    pub fn open(name: &str, types: Types, progress: Progress) -> Result<Self> {
        let options = Options {
            tf32: types.tf32,
            tune: false,
        };
        Self::open_with(name, types, options, progress)
    }

    /// The same, timing cuBLASLt's algorithms wherever the fastest is not known yet; [`Device::keep_tuned`] keeps
    /// what was found. Refuses the CPU.
    pub fn open_tuning(name: &str, types: Types, progress: Progress) -> Result<Self> {
        let options = Options {
            tf32: types.tf32,
            tune: true,
        };
        let device = Self::open_with(name, types, options, progress)?;
        if matches!(device, Self::Cpu) {
            return Err(Error::usage(
                "--tune",
                "it times cuBLASLt's algorithms, and this run is on the CPU",
            )
            .remedy("leave it out, or use --device cuda"));
        }
        Ok(device)
    }

    /// Keeps which algorithms were the fastest for later runs: in which file, and of how many shapes.
    pub fn keep_tuned(&self) -> Result<Option<(PathBuf, usize)>> {
        match self {
            Self::Cpu => Ok(None),
            Self::Cuda(driver) => driver.keep_tuned().map(Some),
        }
    }

    fn open_with(name: &str, types: Types, options: Options, progress: Progress) -> Result<Self> {
        let device = match wanted(name)? {
            Wanted::Cpu => None,
            Wanted::Cuda(index) => {
                let card = Requirements::look().card(index)?;
                Some(Driver::open(card, options)?)
            }
            Wanted::Auto => automatic(options, progress),
        };
        let device = device.map_or(Self::Cpu, |driver| Self::Cuda(Rc::new(driver)));
        device.check(types)?;
        Ok(device)
    }

    /// Refuses types that it does not compute in.
    pub fn check(&self, types: Types) -> Result<()> {
        match self {
            Self::Cpu => refuse_on_cpu(types, Cpu::in_bfloat16().is_some()),
            Self::Cuda(_) => Ok(()),
        }
    }

    /// The card that `--device` names; `auto` is the first that can be used, and `cpu` is none.
    pub fn card(name: &str) -> Result<Option<Card>> {
        let card = match wanted(name)? {
            Wanted::Auto => Requirements::look().first()?,
            Wanted::Cuda(index) => Requirements::look().card(index)?,
            Wanted::Cpu => return Ok(None),
        };
        Ok(Some(card))
    }

    /// The indices of the cards that can be used; there is at least one.
    pub fn cards() -> Result<Vec<usize>> {
        let found = Requirements::look();
        let usable = found
            .cards
            .iter()
            .filter(|card| card.unsupported().is_none());
        let usable: Vec<usize> = usable.map(|card| card.index).collect();
        // Which also says why there is none.
        found.first()?;
        Ok(usable)
    }

    /// What it is.
    pub fn place(&self) -> Place {
        match self {
            Self::Cpu => Place::cpu(),
            Self::Cuda(driver) => Place {
                device: format!("cuda:{}", driver.card().index),
                card: Some(driver.card().name.clone()),
                tf32: driver.options().tf32,
            },
        }
    }

    /// The types for a model.
    pub fn precision(&self, types: Types, model: &Model) -> Result<Precision> {
        if matches!(self, Self::Cpu) {
            return match types.arithmetic {
                Some(DType::BFloat16) => Precision::new(DType::BFloat16, DType::Float32),
                _ => Ok(DType::Float32.into()),
            };
        }
        let dtype = match types.arithmetic {
            Some(dtype) => dtype,
            None => model.stored_dtype()?,
        };
        if types.tf32 && dtype != DType::Float32 {
            return Err(Error::usage(
                "--tf32",
                format!("it is about float32 products, and this run is in {dtype}"),
            )
            .remedy("leave it out, or use --dtype float32"));
        }
        Precision::new(dtype, types.residual.unwrap_or(dtype))
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.place().device)
    }
}

/// What `--device` asks for.
enum Wanted {
    Auto,
    Cpu,
    Cuda(usize),
}

/// Reads `--device`.
fn wanted(device: &str) -> Result<Wanted> {
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

fn refuse_on_cpu(types: Types, bfloat16: bool) -> Result<()> {
    if types.tf32 {
        return Err(Error::usage(
            "--tf32",
            "TF32 is arithmetic of NVIDIA cards, and this run is on the CPU",
        )
        .remedy("leave it out, or use --device cuda"));
    }
    let reason = match (types.arithmetic, types.residual) {
        (Some(DType::Float16), _) => "the CPU computes in float32, or with products in bfloat16",
        (Some(DType::BFloat16), _) if !bfloat16 => {
            "this processor has no instructions for products of bfloat16 (AVX-512 BF16)"
        }
        (_, Some(DType::BFloat16 | DType::Float16)) => {
            let reason = "on the CPU the residual stream is in float32";
            return Err(Error::usage("--residual-dtype", reason).remedy("leave it out"));
        }
        _ => return Ok(()),
    };
    Err(Error::usage("--dtype", reason)
        .remedy("use --dtype auto; checkpoints of every dtype are read"))
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

    #[test]
    fn types_on_the_cpu() {
        let types = |arithmetic, residual| Types {
            arithmetic,
            residual,
            tf32: false,
        };
        let (float32, bfloat16) = (Some(DType::Float32), Some(DType::BFloat16));
        for (types, without, with) in [
            (types(None, None), true, true),
            (types(float32, float32), true, true),
            (types(bfloat16, None), false, true),
            (types(bfloat16, float32), false, true),
            (types(Some(DType::Float16), None), false, false),
            (types(None, bfloat16), false, false),
            (types(bfloat16, bfloat16), false, false),
        ] {
            assert_eq!(refuse_on_cpu(types, false).is_ok(), without, "{types:?}");
            assert_eq!(refuse_on_cpu(types, true).is_ok(), with, "{types:?}");
        }
        let error = refuse_on_cpu(types(bfloat16, None), false).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "--dtype: this processor has no instructions for products of bfloat16 (AVX-512 BF16); use --dtype \
             auto; checkpoints of every dtype are read"
        );
    }

    #[test]
    fn says_what_computed() {
        let card = Place {
            device: "cuda:0".to_owned(),
            card: Some("NVIDIA H100".to_owned()),
            tf32: false,
        };
        let mixed = Precision::new(DType::BFloat16, DType::Float32).expect("fits");
        assert_eq!(
            card.computed_in(mixed),
            "bfloat16 on NVIDIA H100, float32 stream"
        );
        let plain = DType::Float16.into();
        assert_eq!(card.computed_in(plain), "float16 on NVIDIA H100");
        let float32 = DType::Float32.into();
        assert_eq!(Place::cpu().computed_in(float32), "float32 on the CPU");
    }
}
