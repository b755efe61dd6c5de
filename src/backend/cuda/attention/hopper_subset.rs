//! What some keys give to the output and the others on cards of compute capability 9.0
//! (`kernels/attention_subset_hopper.cu`): the forward pass of `attention_hopper` once more for each of the two.
#![forbid(unsafe_code)]

use super::{
    super::{Address, Argument, Device, constants::ATTENTION_SUBSET_HOPPER_BYTES},
    Call,
    arguments::Arguments,
    hopper::{HopperArguments, Plan},
};
use crate::error::Result;

/// `AttentionSubsetHopperArguments` of `kernels/attention/arguments.cuh`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct SubsetHopperArguments {
    attention: HopperArguments,
    listed: Address,
    log_sums: Address,
    others: u32,
}

const _: () = assert!(size_of::<SubsetHopperArguments>() == ATTENTION_SUBSET_HOPPER_BYTES);

impl<D: Device> Call<'_, D> {
    /// Both parts, the listed keys' into `subset` and the others' into `rest`.
    pub(super) fn parts_on_hopper(
        &self,
        plan: &Plan,
        listed: Address,
        [subset, rest]: [Address; 2],
    ) -> Result<()> {
        let work = self.work_on_hopper(plan)?;
        let whole = self.arguments(&work.tiles)?;
        // What the forward pass found stays, and a logit without value is in no part.
        let both = Arguments {
            sinks: Address::NULL,
            log_sums: Address::NULL,
            extra_logits: Address::NULL,
            ..whole
        };
        let subset = Arguments {
            out: subset,
            extra_key: Address::NULL,
            ..both
        };
        let rest = Arguments { out: rest, ..both };
        for (attention, others) in [(subset, 0), (rest, u32::MAX)] {
            let arguments = SubsetHopperArguments {
                attention: work.told(attention),
                listed,
                log_sums: whole.log_sums,
                others,
            };
            self.launch_on_hopper("subset_hopper", plan, &work, Argument::of(&arguments))?;
        }
        Ok(())
    }
}
