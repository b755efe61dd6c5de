//! What this machine has of what the CUDA backend needs.

use std::path::Path;

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
        let cublas_lt = (kernels.is_ok() && !cards.is_empty()).then(libraries::cublas_lt);
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

impl Card {
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
