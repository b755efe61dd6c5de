//! What this machine has of what the CUDA backend needs.

use std::{fs, path::Path};

use cudarc::driver::{
    result::{self, DriverError},
    sys,
};

use super::{failure::reason, images, libraries};
use crate::{
    error::{Error, Result},
    panics,
};

/// The oldest compute capability that the kernels are compiled for.
const OLDEST: (i32, i32) = (8, 0);

/// The oldest driver that runs this binary's kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Oldest {
    /// The CUDA version that it says it supports.
    cuda: (u32, u32),
    /// Its own number, as NVIDIA's packages have it.
    driver: u32,
}

impl Oldest {
    /// Given the CUDA release of the compiler: a release's binaries run with any driver of its major
    /// version. Of CUDA 12's drivers those of 12.2 are the oldest that are still maintained.
    fn of(release: (u32, u32)) -> Self {
        match release {
            (12, _) => Self {
                cuda: (12, 2),
                driver: 535,
            },
            _ => Self {
                cuda: (13, 0),
                driver: 580,
            },
        }
    }

    fn here() -> Self {
        Self::of(images::release())
    }
}

/// Why there is no version.
pub const NO_DRIVER: &str = "no NVIDIA driver (libcuda) is installed";

/// One card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The driver's index.
    pub index: usize,
    /// Product name.
    pub name: String,
    /// Compute capability.
    pub capability: (i32, i32),
    /// Device memory.
    pub memory_bytes: usize,
}

/// The parts that must be there, each with what was found or why it was not.
#[derive(Debug, Clone)]
pub struct Requirements {
    /// The compiler that made this binary's kernels.
    pub kernels: Result<&'static str, &'static str>,
    /// The CUDA version that the driver supports; none where no driver is installed.
    pub driver: Option<std::result::Result<(u32, u32), String>>,
    /// The cards that the driver sees.
    pub cards: Vec<Card>,
    /// Where cuBLASLt is; only looked for where there are kernels and a card.
    pub cublas_lt: Option<std::result::Result<&'static Path, &'static str>>,
}

impl Requirements {
    /// Looks.
    pub fn look() -> Self {
        let (driver, cards) = match driver() {
            None => (None, Vec::new()),
            Some(Ok((version, cards))) => (Some(Ok(version)), cards),
            Some(Err(reason)) => (Some(Err(reason)), Vec::new()),
        };
        let kernels = images::built();
        let looked_for = match driver {
            Some(Ok(version)) if kernels.is_ok() && !cards.is_empty() => Some(version),
            _ => None,
        };
        let cublas_lt = looked_for.map(libraries::cublas_lt);
        Self {
            kernels,
            driver,
            cards,
            cublas_lt,
        }
    }

    /// Why no card can be used at all, with the remedy.
    pub fn missing(&self) -> Option<Error> {
        if let Err(reason) = self.kernels {
            return Some(Error::new("CUDA", format!("this build has no kernels: {reason}")).remedy(
                "build it where nvcc is, with --features require-cuda to be sure, or use --device cpu",
            ));
        }
        let without_driver = |reason: &str| {
            Error::new("CUDA", reason).remedy(format!(
                "install NVIDIA driver {} or newer, or use --device cpu",
                Oldest::here().driver
            ))
        };
        match &self.driver {
            None => return Some(without_driver(NO_DRIVER)),
            Some(Err(reason)) => return Some(without_driver(reason)),
            Some(Ok(_)) => {}
        }
        if self.cards.is_empty() {
            return Some(
                Error::new("CUDA", "the driver is installed, but sees no card")
                    .remedy("check nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device cpu"),
            );
        }
        if let Some(Err(reason)) = self.cublas_lt {
            return Some(Error::new("CUDA", reason).remedy(
                "install cuBLAS of CUDA 12 or 13 (pip install nvidia-cublas, or the toolkit) and name its folder in \
                 LD_LIBRARY_PATH, or use --device cpu",
            ));
        }
        None
    }

    /// Whether there is a card, or a driver that cannot say.
    pub fn card_expected(&self) -> bool {
        !self.cards.is_empty() || matches!(self.driver, Some(Err(_)))
    }

    /// The first card that can be used.
    pub fn first(self) -> Result<Card> {
        let usable = self.cards.iter().find(|card| card.unsupported().is_none());
        // Where none is, the first one's reason is as good as any.
        let index = usable.map_or(0, |card| card.index);
        self.card(index)
    }

    /// All cards that can be used; there is one at least.
    pub fn usable(self) -> Result<Vec<Card>> {
        let usable = self.cards.iter();
        let usable = usable.filter(|card| card.unsupported().is_none());
        let usable = usable.cloned().collect();
        // Which also says why there is none.
        self.first()?;
        Ok(usable)
    }

    /// Of every kind of which several can be used, what `--device` calls them together, and their name.
    pub fn several(&self) -> Vec<(String, String)> {
        let mut kinds: Vec<Vec<&Card>> = Vec::new();
        for card in self
            .cards
            .iter()
            .filter(|card| card.unsupported().is_none())
        {
            match kinds.iter_mut().find(|kind| kind[0].is_like(card)) {
                Some(kind) => kind.push(card),
                None => kinds.push(vec![card]),
            }
        }
        let several = kinds.into_iter().filter(|kind| kind.len() > 1);
        several
            .map(|kind| {
                let indices: Vec<String> = kind.iter().map(|card| card.index.to_string()).collect();
                let name = format!("{} x {}", kind.len(), kind[0].name);
                (format!("cuda:{}", indices.join(",")), name)
            })
            .collect()
    }

    /// The same, to compute side by side.
    pub fn all(self) -> Result<Vec<Card>> {
        alike("cuda:all", self.usable()?)
    }

    /// Cards that can be used, to compute side by side.
    pub fn cards(self, indices: &[usize]) -> Result<Vec<Card>> {
        let cards = indices.iter().map(|index| self.clone().card(*index));
        let listed: Vec<String> = indices.iter().map(ToString::to_string).collect();
        alike(
            &format!("cuda:{}", listed.join(",")),
            cards.collect::<Result<_>>()?,
        )
    }

    /// A card that can be used.
    pub fn card(self, index: usize) -> Result<Card> {
        if let Some(missing) = self.missing() {
            return Err(missing);
        }
        let count = self.cards.len();
        let Some(card) = self.cards.into_iter().nth(index) else {
            let last = count - 1;
            return Err(
                Error::usage(format!("--device cuda:{index}"), "no such card").remedy(format!(
                    "the last is cuda:{last}; `massact devices` lists them"
                )),
            );
        };
        match card.unsupported() {
            Some(reason) => {
                Err(Error::new(format!("cuda:{index}"), reason).remedy("use --device cpu"))
            }
            None => Ok(card),
        }
    }
}

/// Refuses cards of several kinds: which of them computes what would be seen in the last digits.
fn alike(device: &str, cards: Vec<Card>) -> Result<Vec<Card>> {
    let Some(first) = cards.first() else {
        return Ok(cards);
    };
    let same = |card: &&Card| card.is_like(first);
    let Some(other) = cards.iter().find(|card| !same(card)) else {
        return Ok(cards);
    };
    let of_kind = |card: &Card| {
        let (major, minor) = card.capability;
        format!("cuda:{} is {} ({major}.{minor})", card.index, card.name)
    };
    let like_first = cards.iter().filter(same);
    let like_first: Vec<String> = like_first.map(|card| card.index.to_string()).collect();
    Err(Error::usage(
        format!("--device {device}"),
        format!(
            "cards of different kinds give different digits, and {}, {}",
            of_kind(first),
            of_kind(other)
        ),
    )
    .remedy(format!(
        "name cards of one kind: --device cuda:{}",
        like_first.join(",")
    )))
}

impl Card {
    /// Whether it is of the same kind.
    pub fn is_like(&self, other: &Self) -> bool {
        self.name == other.name && self.capability == other.capability
    }

    /// Why the kernels do not run on it.
    pub fn unsupported(&self) -> Option<String> {
        let (major, minor) = self.capability;
        (self.capability < OLDEST).then(|| {
            format!(
                "{} has compute capability {major}.{minor}, and the kernels need {}.{} (Ampere) or newer",
                self.name, OLDEST.0, OLDEST.1
            )
        })
    }
}

/// The driver's CUDA version and its cards, or what is wrong with it.
fn driver() -> Option<Found> {
    // SAFETY: only tries to load the library; cudarc marks the whole generated module unsafe.
    if !unsafe { sys::is_culib_present() } {
        return None;
    }
    // cudarc panics where the driver lacks a function; that is an answer too.
    Some(match panics::caught(ask) {
        Some(Ok(found)) => found,
        Some(Err(error)) => Err(format!("the driver reports: {}", reason(error))),
        None => Err("the driver lacks functions that massact needs".to_owned()),
    })
}

type Found = Result<((u32, u32), Vec<Card>), String>;

/// The CUDA version that the driver supports.
pub(super) fn version() -> Result<(u32, u32), DriverError> {
    let mut version = 0;
    // SAFETY: writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    let version = version.unsigned_abs();
    Ok((version / 1000, version % 1000 / 10))
}

/// The driver's own number, where the system tells: `580.95.05`.
pub(super) fn release() -> Option<String> {
    released(&fs::read_to_string("/proc/driver/nvidia/version").ok()?)
}

/// The first word that is a number with points.
fn released(text: &str) -> Option<String> {
    let number =
        |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.split_whitespace().find(number).map(str::to_owned)
}

fn ask() -> Result<Found, DriverError> {
    let (major, minor) = version()?;
    let oldest = Oldest::here().cuda;
    if (major, minor) < oldest {
        return Ok(Err(format!(
            "the driver supports CUDA {major}.{minor}, and the kernels need {}.{}",
            oldest.0, oldest.1
        )));
    }
    match result::init() {
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => {
            return Ok(Ok(((major, minor), Vec::new())));
        }
        started => started?,
    }
    let count = usize::try_from(result::device::get_count()?).unwrap_or(0);
    let cards = (0..count).map(card).collect::<Result<_, _>>()?;
    Ok(Ok(((major, minor), cards)))
}

fn card(index: usize) -> Result<Card, DriverError> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let device = result::device::get(i32::try_from(index).unwrap_or(i32::MAX))?;
    // SAFETY: the device is of the driver.
    let (capability, memory_bytes) = unsafe {
        let major = result::device::get_attribute(device, MAJOR)?;
        let minor = result::device::get_attribute(device, MINOR)?;
        ((major, minor), result::device::total_mem(device)?)
    };
    Ok(Card {
        index,
        name: result::device::get_name(device)?,
        capability,
        memory_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(index: usize, name: &str, capability: (i32, i32)) -> Card {
        Card {
            index,
            name: name.to_owned(),
            capability,
            memory_bytes: 80 << 30,
        }
    }

    #[test]
    fn the_drivers_number() {
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@a)\n\
                    GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n";
        assert_eq!(released(open).as_deref(), Some("580.95.05"));
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n";
        assert_eq!(released(closed).as_deref(), Some("535.183.01"));
        assert_eq!(released("NVRM version: unknown"), None);
    }

    /// Two of a kind, another, and one that is too old; all else is there.
    fn found() -> Requirements {
        Requirements {
            kernels: Ok("nvcc 13.0"),
            driver: Some(Ok((13, 0))),
            cards: vec![
                card(0, "NVIDIA H100", (9, 0)),
                card(1, "NVIDIA A100", (8, 0)),
                card(2, "NVIDIA H100", (9, 0)),
                card(3, "NVIDIA V100", (7, 0)),
            ],
            cublas_lt: Some(Ok(Path::new("libcublasLt.so"))),
        }
    }

    #[test]
    fn cards_that_compute_side_by_side_are_of_one_kind() {
        let indices = |cards: Result<Vec<Card>>| {
            let cards = cards.map(|cards| cards.into_iter().map(|card| card.index));
            cards.map(Iterator::collect::<Vec<_>>)
        };
        assert_eq!(indices(found().cards(&[2, 0])).expect("alike"), [2, 0]);
        assert_eq!(indices(found().cards(&[1])).expect("one"), [1]);
        assert_eq!(indices(found().usable()).expect("three"), [0, 1, 2]);
        let unlike = "cards of different kinds give different digits, and cuda:0 is NVIDIA H100 (9.0), cuda:1 is \
                      NVIDIA A100 (8.0); name cards of one kind: --device cuda:0";
        for (refused, error) in [
            (
                found().cards(&[0, 1]),
                format!("--device cuda:0,1: {unlike}"),
            ),
            (found().all(), format!("--device cuda:all: {unlike},2")),
            (
                found().cards(&[0, 7]),
                "--device cuda:7: no such card; the last is cuda:3; `massact devices` lists them"
                    .to_owned(),
            ),
        ] {
            let refused = refused.expect_err("refused");
            assert_eq!(refused.to_string(), error);
            assert_eq!(refused.exit_code(), 2);
        }
        let old = found().cards(&[0, 3]).expect_err("too old");
        assert!(old.to_string().starts_with("cuda:3: NVIDIA V100"), "{old}");
        let together = ("cuda:0,2".to_owned(), "2 x NVIDIA H100".to_owned());
        assert_eq!(found().several(), [together]);
        let mut alike = found();
        alike.cards.remove(1);
        assert_eq!(indices(alike.all()).expect("two"), [0, 2]);
        let mut none = found();
        none.cards.drain(..3);
        assert!(none.all().is_err());
    }

    #[test]
    fn the_oldest_driver_follows_from_the_compiler() {
        for (release, cuda, driver) in [
            ((12, 8), (12, 2), 535),
            ((12, 9), (12, 2), 535),
            ((13, 0), (13, 0), 580),
            ((13, 1), (13, 0), 580),
            // A build without kernels.
            ((0, 0), (13, 0), 580),
        ] {
            assert_eq!(Oldest::of(release), Oldest { cuda, driver });
        }
    }
}
