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
    /// Cards of one kind, one at least, which share the micro-batches of a run.
    Cuda(Vec<Rc<Driver>>),
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
    /// `cpu`, `cuda:N` or `cuda:N,M`.
    pub device: String,
    /// The card's product name; of several, which are of one kind, with their number: `2 x NVIDIA H100`.
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

    /// Cards of one kind.
    fn of_cards<'c>(cards: impl Iterator<Item = &'c Card> + Clone, tf32: bool) -> Self {
        let indices: Vec<String> = cards.clone().map(|card| card.index.to_string()).collect();
        let name = cards.clone().next().map(|card| card.name.clone());
        Self {
            device: format!("cuda:{}", indices.join(",")),
            card: match indices.len() {
                1 => name,
                count => name.map(|name| format!("{count} x {name}")),
            },
            tf32,
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

    /// The same, timing cuBLASLt's algorithms for every shape that is met; [`Device::keep_tuned`] keeps
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
            Self::Cuda(drivers) => drivers[0].keep_tuned().map(Some),
        }
    }

    fn open_with(name: &str, types: Types, options: Options, progress: Progress) -> Result<Self> {
        let drivers = match wanted(name)? {
            Wanted::Cpu => Vec::new(),
            Wanted::Auto => Vec::from_iter(automatic(options, progress)),
            Wanted::Cards(indices) => opened(Requirements::look().cards(&indices)?, options)?,
            Wanted::All => opened(Requirements::look().all()?, options)?,
        };
        let drivers: Vec<Rc<Driver>> = drivers.into_iter().map(Rc::new).collect();
        let device = match drivers.is_empty() {
            true => Self::Cpu,
            false => Self::Cuda(drivers),
        };
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

    /// The cards that `--device` names; `auto` is the first that can be used, and `cpu` is none.
    pub fn named(name: &str) -> Result<Vec<Card>> {
        match wanted(name)? {
            Wanted::Auto => Ok(vec![Requirements::look().first()?]),
            Wanted::Cards(indices) => Requirements::look().cards(&indices),
            Wanted::All => Requirements::look().all(),
            Wanted::Cpu => Ok(Vec::new()),
        }
    }

    /// How many compute side by side.
    pub fn count(&self) -> usize {
        match self {
            Self::Cpu => 1,
            Self::Cuda(drivers) => drivers.len(),
        }
    }

    /// The indices of the cards that can be used; there is at least one.
    pub fn cards() -> Result<Vec<usize>> {
        let usable = Requirements::look().usable()?;
        Ok(usable.into_iter().map(|card| card.index).collect())
    }

    /// What it is.
    pub fn place(&self) -> Place {
        match self {
            Self::Cpu => Place::cpu(),
            Self::Cuda(drivers) => {
                let cards = drivers.iter().map(|driver| driver.card());
                let tf32 = drivers.iter().any(|driver| driver.options().tf32);
                Place::of_cards(cards, tf32)
            }
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
    /// One at least, and each once.
    Cards(Vec<usize>),
    All,
}

/// Reads `--device`.
fn wanted(device: &str) -> Result<Wanted> {
    let unknown = || {
        Error::usage(format!("--device {device}"), "no such device").remedy(
            "use auto, cpu, cuda, cuda:N, cuda:N,M or cuda:all; `massact devices` lists them",
        )
    };
    match device {
        "auto" => Ok(Wanted::Auto),
        "cpu" => Ok(Wanted::Cpu),
        "cuda" => Ok(Wanted::Cards(vec![0])),
        "cuda:all" => Ok(Wanted::All),
        _ => {
            let list = device.strip_prefix("cuda:").ok_or_else(unknown)?;
            let mut indices: Vec<usize> = Vec::new();
            for index in list.split(',') {
                let index = index.parse().map_err(|_| unknown())?;
                if indices.contains(&index) {
                    return Err(Error::usage(
                        format!("--device {device}"),
                        format!("cuda:{index} is named twice"),
                    )
                    .remedy("name each card once"));
                }
                indices.push(index);
            }
            Ok(Wanted::Cards(indices))
        }
    }
}

fn opened(cards: Vec<Card>, options: Options) -> Result<Vec<Driver>> {
    let cards = cards.into_iter();
    cards.map(|card| Driver::open(card, options)).collect()
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
        assert!(matches!(wanted("cuda:all"), Ok(Wanted::All)));
        for (name, cards) in [
            ("cuda", &[0][..]),
            ("cuda:3", &[3]),
            ("cuda:0,1", &[0, 1]),
            ("cuda:7,2,11", &[7, 2, 11]),
        ] {
            let wanted = wanted(name);
            assert!(
                matches!(&wanted, Ok(Wanted::Cards(found)) if found == cards),
                "{name}"
            );
        }
        for wrong in [
            "",
            "gpu",
            "cuda:",
            "cuda:-1",
            "cuda:x",
            "cpu:0",
            "cuda:0,",
            "cuda:,1",
            "cuda:0, 1",
            "cuda:0;1",
            "cuda:0,all",
            "cuda:0,cpu",
        ] {
            let error = wanted(wrong).err().expect("no device");
            assert_eq!(error.exit_code(), 2, "{wrong}");
            assert!(error.to_string().contains("no such device"), "{error}");
        }
        let error = wanted("cuda:0,1,0").err().expect("twice");
        assert_eq!(
            error.to_string(),
            "--device cuda:0,1,0: cuda:0 is named twice; name each card once"
        );
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn several_cards_are_a_place() {
        let card = |index| Card {
            index,
            name: "NVIDIA H100".to_owned(),
            capability: (9, 0),
            memory_bytes: 80 << 30,
        };
        let place = Place::of_cards([card(3)].iter(), false);
        assert_eq!(place.device, "cuda:3");
        assert_eq!(place.name(), "NVIDIA H100");
        let place = Place::of_cards([card(0), card(2)].iter(), true);
        assert_eq!(place.device, "cuda:0,2");
        assert_eq!(place.name(), "2 x NVIDIA H100");
        assert!(place.tf32);
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
