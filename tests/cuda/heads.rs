//! What each head gives, and what experts have inside: the emulated card against the CPU.

use std::collections::BTreeMap;

use massact::{
    Result,
    backend::{Backend, cpu::Cpu, cuda::Cuda},
    engine::{self, HeadOutputs, Observer, Plan, Site},
    model::{Model, dtype::DType},
    progress::Progress,
};
use massact_emulator::{Emulator, Order};

use crate::{bench::near, support::reference};

/// Awkward heads, values narrower than keys, heads in groups before the output projection, a gate.
const CHECKPOINTS: [&str; 5] = [
    "llama-gqa7-head-dim",
    "deepseek-v2",
    "deepseek-v4",
    "gpt-oss",
    "gated-qwen3",
];

#[derive(Default)]
struct Seen {
    heads: BTreeMap<(usize, usize), HeadOutputs>,
    experts: BTreeMap<(Site, usize, usize), Vec<f32>>,
}

impl Observer for Seen {
    fn tensor(
        &mut self,
        site: Site,
        layer: usize,
        sequence: usize,
        _columns: usize,
        values: &[f32],
    ) -> Result<()> {
        self.experts
            .insert((site, layer, sequence), values.to_vec());
        Ok(())
    }

    fn head_outputs(&mut self, layer: usize, sequence: usize, found: HeadOutputs) -> Result<()> {
        self.heads.insert((layer, sequence), found);
        Ok(())
    }
}

fn run<B: Backend>(backend: &B, model: &Model, sequences: &[Vec<u32>]) -> Seen {
    let sites = [Site::ExpertInner, Site::ExpertOutput].into_iter();
    let plan = Plan {
        head_outputs: true,
        keys: Some(vec![vec![0, 3]; sequences.len()]),
        raw: sites.filter(|site| site.exists_in(&model.spec)).collect(),
        ..Plan::default()
    };
    let mut seen = Seen::default();
    let progress = Progress::silent();
    engine::run(backend, model, sequences, &plan, &mut seen, progress).expect("runs");
    seen
}

#[test]
fn heads_and_experts_are_those_of_the_cpu() {
    let mut experts = 0;
    for name in CHECKPOINTS {
        let checkpoint = reference::load(name);
        let model = Model::open(&checkpoint.folder).expect("opens");
        let ids =
            &checkpoint.reference.sequences[checkpoint.reference.attention_sequence].token_ids;
        let sequences = vec![ids[..10].to_vec(), ids[2..9].to_vec()];
        let wanted = run(&Cpu::new(), &model, &sequences);
        let cuda = Cuda::new(Emulator::new(Order::Random(5)), DType::Float32);
        let got = run(&cuda, &model, &sequences);
        assert!(wanted.heads.len() > 1, "{name}");
        assert_eq!(got.heads.len(), wanted.heads.len(), "{name}");
        for (place, wanted) in &wanted.heads {
            let got = &got.heads[place];
            let narrow =
                |values: &[f64]| -> Vec<f32> { values.iter().map(|x| *x as f32).collect() };
            let parts = |outputs: &HeadOutputs| {
                let parts = outputs.parts.clone().expect("parts");
                [
                    parts.followed,
                    parts.rest,
                    outputs.own.clone(),
                    outputs.projected.clone(),
                ]
            };
            let (heads, tokens) = (wanted.own.len(), sequences[place.1].len());
            assert_eq!(heads % tokens, 0, "{name}");
            for (got, wanted) in parts(got).iter().zip(parts(wanted)) {
                assert_eq!(wanted.len(), heads, "{name}");
                near(
                    &format!("{name} {place:?}"),
                    &narrow(got),
                    &narrow(&wanted),
                    1e-4,
                    1.0,
                );
            }
        }
        assert_eq!(got.experts.len(), wanted.experts.len(), "{name}");
        for (place, wanted) in &wanted.experts {
            near(
                &format!("{name} {place:?}"),
                &got.experts[place],
                wanted,
                1e-4,
                1.0,
            );
            experts += 1;
        }
    }
    assert!(experts > 8, "{experts}");
}
