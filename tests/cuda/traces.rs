//! Values that are followed through the layers, edits at every site and heads that are switched off: the
//! emulated card against the CPU.

use std::collections::BTreeMap;

use massact::{
    Result,
    backend::{Backend, Change, cpu::Cpu, cuda::Cuda},
    engine::{self, Branch, Edit, Observer, Plan, Reading, Rule, Site, Source, Step},
    model::{Model, dtype::DType},
    progress::Progress,
};
use massact_emulator::{Emulator, Order};

use crate::{bench::near, support::reference};

/// Attention with grouped queries, experts, a mixer beside attention, norms on the stream itself, and a block
/// beside the stream.
const CHECKPOINTS: [&str; 5] = [
    "llama-gqa3-f32",
    "mixtral",
    "falcon-h1",
    "opt-post-norm-projected",
    "zamba2",
];

/// The layer that is edited and read.
const LAYER: usize = 1;

#[derive(Default)]
struct Seen {
    sites: Vec<Site>,
    steps: BTreeMap<(usize, usize, Step), Vec<f32>>,
    rows: BTreeMap<(usize, usize, usize), Vec<f32>>,
    sources: BTreeMap<(usize, usize, usize, Source), [Vec<f32>; 2]>,
    reading: BTreeMap<usize, Vec<f32>>,
}

impl Observer for Seen {
    fn step(&mut self, (layer, sequence): (usize, usize), step: Step, values: &[f32]) {
        // A layer may have several norms.
        let key = (layer, sequence, step);
        self.steps.entry(key).or_default().extend(values);
    }

    fn row(&mut self, place: (usize, usize, usize), step: Step, values: &[f32]) {
        if step == Step::Output {
            self.rows.insert(place, values.to_vec());
        }
    }

    fn source(
        &mut self,
        (layer, sequence, position): (usize, usize, usize),
        source: Source,
        inner: &[f32],
        output: &[f32],
    ) -> Result<()> {
        let place = (layer, sequence, position, source);
        self.sources
            .insert(place, [inner.to_vec(), output.to_vec()]);
        Ok(())
    }

    fn reading(&mut self, _: usize, sequence: usize, values: &[f32]) {
        self.reading.insert(sequence, values.to_vec());
    }

    /// A variant a site, with every rule, and one without a head.
    fn first_branches(&mut self, _: usize) -> Result<Vec<Branch>> {
        let edits = self.sites.iter().enumerate().map(|(variant, site)| Branch {
            variant,
            edits: vec![Edit {
                site: *site,
                layer: if site.per_layer() { LAYER } else { 0 },
                cells: vec![
                    (0, 0, Rule::Change(Change::Set(2.0))),
                    (1, 1, Rule::Change(Change::Scale(-3.0))),
                    (2, 0, Rule::Clip(0.01)),
                    (3, 1, Rule::Take(0)),
                ],
            }],
            ..Branch::default()
        });
        let off = Branch {
            variant: self.sites.len(),
            heads_off: vec![(LAYER, 1)],
            ..Branch::default()
        };
        Ok(edits.chain([off]).collect())
    }
}

fn run<B: Backend>(backend: &B, model: &Model, sequences: &[Vec<u32>]) -> (Seen, Vec<Vec<f32>>) {
    let sites = Site::ALL.into_iter();
    let sites: Vec<Site> = sites
        .filter(|site| site.is_in(&model.spec.layers[LAYER]))
        .collect();
    let cells = vec![vec![(0, 1), (3, 0), (3, 5)]; sequences.len()];
    let plan = Plan {
        nll: true,
        variants: sites.len() + 1,
        trace: Some(cells.clone()),
        reading: Some(Reading {
            site: Site::MlpOutput,
            layers: vec![LAYER],
            cells,
        }),
        ..Plan::default()
    };
    let mut seen = Seen {
        sites,
        ..Seen::default()
    };
    let outcome = engine::run(
        backend,
        model,
        sequences,
        &plan,
        &mut seen,
        Progress::silent(),
    );
    let outcome = outcome.expect("runs");
    let branches = outcome.branches.into_iter().map(|branch| branch.token_nll);
    (
        seen,
        outcome.token_nll.into_iter().chain(branches).collect(),
    )
}

#[test]
fn followed_and_edited_values_are_those_of_the_cpu() {
    for name in CHECKPOINTS {
        let checkpoint = reference::load(name);
        let model = Model::open(&checkpoint.folder).expect("opens");
        let ids =
            &checkpoint.reference.sequences[checkpoint.reference.attention_sequence].token_ids;
        let sequences = vec![ids[..10].to_vec(), ids[2..9].to_vec()];
        let (wanted, likelihoods) = run(&Cpu::new(), &model, &sequences);
        let cuda = Cuda::new(Emulator::new(Order::Random(3)), DType::Float32);
        let (got, got_likelihoods) = run(&cuda, &model, &sequences);
        assert_eq!(got.steps.len(), wanted.steps.len(), "{name}");
        for (key, values) in &wanted.steps {
            near(
                &format!("{name} {key:?}"),
                &got.steps[key],
                values,
                1e-4,
                1.0,
            );
        }
        assert_eq!(got.rows.len(), 2 * 2 * model.spec.layers.len(), "{name}");
        for (key, values) in &wanted.rows {
            near(
                &format!("{name} {key:?}"),
                &got.rows[key],
                values,
                1e-4,
                1.0,
            );
        }
        assert_eq!(got.sources.len(), wanted.sources.len(), "{name}");
        for (key, [inner, output]) in &wanted.sources {
            near(
                &format!("{name} {key:?}"),
                &got.sources[key][0],
                inner,
                1e-4,
                1.0,
            );
            near(
                &format!("{name} {key:?}"),
                &got.sources[key][1],
                output,
                1e-4,
                1.0,
            );
        }
        assert_eq!(got.reading.len(), 2, "{name}");
        for (key, values) in &wanted.reading {
            near(
                &format!("{name} reading"),
                &got.reading[key],
                values,
                1e-4,
                1.0,
            );
        }
        assert_eq!(likelihoods.len(), 2 * (wanted.sites.len() + 2), "{name}");
        for (got, wanted) in got_likelihoods.iter().zip(&likelihoods) {
            near(name, got, wanted, 1e-4, 1.0);
        }
        // Every edit does something, and so does every head.
        for (index, changed) in likelihoods[2..].iter().enumerate() {
            let original = &likelihoods[index % 2];
            assert_ne!(
                changed,
                original,
                "{name}: {:?}",
                wanted.sites.get(index / 2)
            );
        }
    }
}
