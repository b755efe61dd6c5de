//! Several cards: whole models give the bits that one card gives, every card works on what is its own, and each
//! gets every weight once in a walk.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    rc::Rc,
};

use massact::{
    Error, Result,
    backend::{
        AttentionCapture, AttentionMaps, Precision, ProfileRequest, StatisticsRequest,
        cuda::{
            Address, Argument, Boxes, Cuda, Device, Launch, Limits, Product, Source, TensorMap,
        },
    },
    engine::{
        AttentionParts, Discard, Footprint, HeadOutputs, Observer, Place, Plan, Session, Site,
        Wants, without_attention,
    },
    experiments::{
        CorpusWalk, Thresholds, existence_validation,
        intervention_analysis::{
            self, Anywhere, Dimensions, EvaluationSet, Positions, PositionsFrom, WrittenLayers,
        },
        life::{self, Choice},
    },
    model::{Model, dtype::DType},
    progress::Progress,
};
use massact_emulator::{Emulator, Order};

use crate::{attention_hopper::hopper, support::reference};

/// An emulated card that works on its own memory only, and counts.
#[derive(Debug)]
struct Own {
    card: Emulator,
    /// Bytes by where they begin.
    memory: RefCell<BTreeMap<u64, usize>>,
    launches: Cell<usize>,
    /// How often a part of a file came, by its start and length.
    weights: RefCell<BTreeMap<(u64, usize), usize>>,
}

impl Own {
    fn new(card: Emulator) -> Self {
        Self {
            card,
            memory: RefCell::default(),
            launches: Cell::new(0),
            weights: RefCell::default(),
        }
    }

    /// Refuses memory of another card.
    fn own(&self, address: Address, what: &str) -> Result<()> {
        let memory = self.memory.borrow();
        let before = memory.range(..=address.0).next_back();
        match before {
            Some((start, bytes)) if address.0 < start + *bytes as u64 => Ok(()),
            _ => Err(Error::new(what, "the memory is another card's")),
        }
    }
}

impl Device for Own {
    type Copying = <Emulator as Device>::Copying;

    fn limits(&self) -> Limits {
        self.card.limits()
    }
    fn allocate(&self, bytes: usize) -> Result<Address> {
        let address = self.card.allocate(bytes)?;
        self.memory.borrow_mut().insert(address.0, bytes);
        Ok(address)
    }
    fn release(&self, address: Address) {
        let own = self.memory.borrow_mut().remove(&address.0);
        assert!(own.is_some(), "another card's memory is given back");
        self.card.release(address);
    }
    fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.own(to, "write")?;
        self.card.write(to, bytes)
    }
    fn start_write(&self, to: Address, source: Source) -> Result<Self::Copying> {
        self.own(to, "write")?;
        if let Source::File { start, bytes, .. } = &source {
            let part = (*start, *bytes);
            *self.weights.borrow_mut().entry(part).or_default() += 1;
        }
        self.card.start_write(to, source)
    }
    fn await_copy(&self, copying: Self::Copying) -> Result<()> {
        self.card.await_copy(copying)
    }
    fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.own(from, "read")?;
        self.card.read(from, bytes)
    }
    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.own(from, "copy")?;
        self.own(to, "copy")?;
        self.card.copy(from, to, bytes)
    }
    fn clear(&self, address: Address, bytes: usize) -> Result<()> {
        self.own(address, "clear")?;
        self.card.clear(address, bytes)
    }
    fn launch(&self, launch: &Launch<'_>, arguments: &[Argument<'_>]) -> Result<()> {
        let pointers = arguments.iter().filter_map(Argument::pointer);
        for pointer in pointers.filter(|pointer| *pointer != Address::NULL) {
            self.own(pointer, launch.kernel)?;
        }
        self.launches.set(self.launches.get() + 1);
        self.card.launch(launch, arguments)
    }
    fn tensor_map(&self, boxes: &Boxes<'_>) -> Result<TensorMap> {
        self.own(boxes.address, "tensor map")?;
        self.card.tensor_map(boxes)
    }
    fn multiply(&self, product: &Product) -> Result<()> {
        for operand in [product.left, product.right, product.out] {
            self.own(operand.address, "product")?;
        }
        if let Some(bias) = product.bias {
            self.own(bias, "product")?;
        }
        self.launches.set(self.launches.get() + 1);
        self.card.multiply(product)
    }
}

fn plain_card() -> Emulator {
    Emulator::new(Order::Forward)
}

#[test]
fn a_card_refuses_the_memory_of_another() {
    let [one, other] = [(); 2].map(|()| Own::new(plain_card()));
    let address = one.allocate(64).expect("fits");
    one.write(address, &[1; 64]).expect("its own");
    assert!(other.write(address, &[1; 64]).is_err());
    assert!(other.read(address, &mut [0; 4]).is_err());
    one.release(address);
    assert!(one.write(address, &[1; 64]).is_err());
}

const TOKENS: usize = 14;

/// Sequences of two lengths, in three micro-batches.
fn sequences(model: &Model) -> Vec<Vec<u32>> {
    let vocabulary = model.spec.vocab_size;
    let length = |i: usize| if i % 3 == 1 { TOKENS - 7 } else { TOKENS };
    let token = |i: usize, j: usize| ((i * 31 + j * j * 7 + 3) % vocabulary) as u32;
    (0..8)
        .map(|i| (0..length(i)).map(|j| token(i, j)).collect())
        .collect()
}

/// As many cards, and a session on them with memory for micro-batches of less than four sequences.
fn session(name: &str, count: usize) -> (Vec<Rc<Own>>, Session) {
    session_on(name, count, DType::Float32, plain_card)
}

/// The same in another type on other cards.
fn session_on(
    name: &str,
    count: usize,
    dtype: DType,
    card: fn() -> Emulator,
) -> (Vec<Rc<Own>>, Session) {
    let model = Model::open(&reference::load(name).folder).expect("opens");
    let wants = Wants {
        tokens: TOKENS,
        looks_inside: true,
        statistics: Some(StatisticsRequest {
            top_k: 0,
            abs_threshold: THRESHOLDS.abs as f32,
            rel_threshold: THRESHOLDS.rel as f32,
            moments: false,
        }),
        ..Wants::default()
    };
    let precision = Precision::from(dtype);
    let one = Cuda::new(card(), precision);
    let four = Footprint::on(&one, &model.spec, wants, 4 * TOKENS);
    let budget = Some(four.total(4) - 1);
    let cards: Vec<Rc<Own>> = (0..count).map(|_| Rc::new(Own::new(card()))).collect();
    let backends = cards
        .iter()
        .map(|card| Cuda::sharing(Rc::clone(card), precision))
        .collect();
    let place = Place {
        device: "cuda:several".to_owned(),
        card: Some("emulated cards".to_owned()),
        tf32: false,
    };
    let session = Session::on_cards(
        model,
        backends,
        place,
        budget,
        Some(1 << 30),
        Progress::silent(),
    );
    (cards, session)
}

/// All that an observer is told, by what and where; what a walk repeats takes the place of what it said before.
#[derive(Debug, Default)]
struct Seen {
    tensors: BTreeMap<(Site, usize, usize), Vec<u32>>,
    maps: BTreeMap<(usize, usize), String>,
    parts: BTreeMap<(usize, usize), [Vec<u32>; 3]>,
    heads: BTreeMap<(usize, usize), String>,
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

impl Observer for Seen {
    fn tensor(
        &mut self,
        site: Site,
        layer: usize,
        sequence: usize,
        _: usize,
        values: &[f32],
    ) -> Result<()> {
        self.tensors.insert((site, layer, sequence), bits(values));
        Ok(())
    }

    fn attention(&mut self, layer: usize, sequence: usize, maps: AttentionMaps) -> Result<()> {
        self.maps.insert((layer, sequence), format!("{maps:?}"));
        Ok(())
    }

    fn attention_parts(
        &mut self,
        layer: usize,
        sequence: usize,
        parts: AttentionParts<'_>,
    ) -> Result<()> {
        let parts = [parts.whole, parts.followed, parts.rest].map(bits);
        self.parts.insert((layer, sequence), parts);
        Ok(())
    }

    fn head_outputs(&mut self, layer: usize, sequence: usize, found: HeadOutputs) -> Result<()> {
        self.heads.insert((layer, sequence), format!("{found:?}"));
        Ok(())
    }
}

/// What a session finds, by name.
type Findings = Vec<(&'static str, String)>;

fn text(found: &impl Debug) -> String {
    format!("{found:?}")
}

/// Tensors, attention maps and parts, statistics, profiles, likelihoods and logits.
fn captured(session: &Session, sequences: &[Vec<u32>]) -> Findings {
    let spec = &session.model().spec;
    let maps = without_attention(spec).len() < spec.layers.len();
    let experts = spec.layers.iter().any(|layer| layer.experts().is_some());
    let mut sites = vec![Site::Embedding, Site::LayerOutput, Site::FinalNorm];
    if experts {
        sites.extend([Site::RouterLogits, Site::ExpertOutput]);
    }
    let plan = Plan {
        sites: sites.clone(),
        raw: vec![Site::LayerOutput, Site::FinalNorm],
        profiled: vec![Site::LayerOutput],
        profile: ProfileRequest { top_k: 2 },
        attention: AttentionCapture {
            mean: maps,
            heads: maps,
            sink: maps,
        },
        keys: maps.then(|| sequences.iter().map(|_| vec![0, 3]).collect()),
        head_outputs: maps,
        nll: true,
        last_logits: 16,
        ..Plan::magnitudes(
            Site::LayerOutput,
            StatisticsRequest {
                top_k: 4,
                moments: true,
                abs_threshold: 1.0,
                rel_threshold: 5.0,
            },
        )
    };
    let plan = Plan { sites, ..plan };
    let mut seen = Seen::default();
    let outcome = session.run(sequences, &plan, &mut seen).expect("runs");
    assert_eq!(
        seen.tensors.len(),
        (spec.layers.len() + 1) * sequences.len()
    );
    assert_eq!(maps, !seen.maps.is_empty());
    assert_eq!(outcome.token_nll.len(), sequences.len());
    vec![
        ("what is told", text(&seen)),
        ("statistics", text(&outcome.statistics)),
        ("profiles", text(&outcome.profiles)),
        ("likelihoods", text(&outcome.token_nll)),
        ("logits", text(&outcome.last_logits)),
    ]
}

/// Everywhere exceeded.
const THRESHOLDS: Thresholds = Thresholds { abs: 0.5, rel: 2.0 };

/// Existence, interventions at massive activations and elsewhere, and the life of some values.
fn experiments(session: &Session, sequences: &[Vec<u32>]) -> Findings {
    session.expect_walks(4);
    let corpus = CorpusWalk::run(session, sequences, THRESHOLDS, true).expect("walks");
    let existence = existence_validation::summarise(session, sequences, &corpus, THRESHOLDS);
    let intervened = |anywhere: Anywhere| {
        let setup = intervention_analysis::Setup {
            thresholds: THRESHOLDS,
            nsamples: sequences.len(),
            calibration_nsamples: sequences.len(),
            layers: WrittenLayers::Listed(BTreeSet::from([0])),
            positions_from: PositionsFrom::Own,
            constants: vec![3.0],
            noise: Vec::new(),
            reference: false,
            seed: 1,
            anywhere,
        };
        let set = EvaluationSet {
            name: "text".to_owned(),
            windows: sequences.to_vec(),
        };
        let found = intervention_analysis::run(session, &corpus, &[set], &[], &setup);
        let mut found = found.expect("runs").result;
        // Several cards have memory for more at once.
        found.walks = Default::default();
        for window in &found.nll_by_window["text"] {
            assert!(window.nll.len() > 2, "{:?}", window.nll.keys());
        }
        text(&found)
    };
    let elsewhere = Anywhere {
        site: Site::MixerOutput,
        positions: Positions::First,
        dimensions: Dimensions::Listed(BTreeSet::from([1, 5])),
        calibration: sequences.to_vec(),
        ..Anywhere::default()
    };
    let mut found = vec![
        ("existence", text(&existence)),
        ("interventions elsewhere", intervened(elsewhere)),
    ];
    // Both are of a single residual stream.
    if session.model().spec.streams() > 1 {
        return found;
    }
    found.push(("interventions", intervened(Anywhere::default())));
    let life = life::run(
        session,
        sequences,
        &life::Setup {
            thresholds: THRESHOLDS,
            choice: Choice {
                positions: vec![0, TOKENS / 2],
                tokens: Vec::new(),
                dimensions: vec![0, 7],
            },
            most: 64,
            neurons: 3,
        },
    );
    let life = life.expect("runs").result;
    assert!(!life.activations.is_empty());
    found.push(("life", text(&life)));
    found
}

fn assert_equal(what: &str, got: &Findings, wanted: &Findings) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    for ((name, got), (_, wanted)) in got.iter().zip(wanted) {
        let differs = got.bytes().zip(wanted.bytes()).position(|(a, b)| a != b);
        let around = |text: &str, at: usize| {
            let bytes = &text.as_bytes()[at.saturating_sub(60)..text.len().min(at + 20)];
            String::from_utf8_lossy(bytes).into_owned()
        };
        if let Some(at) = differs {
            let (got, wanted) = (around(got, at), around(wanted, at));
            panic!("{what}, {name}: {got} instead of {wanted}");
        }
        assert_eq!(got.len(), wanted.len(), "{what}, {name}");
    }
}

/// Both, on one card and on several, all of which work.
fn several_find_what_one_finds(name: &str, counts: &[usize]) {
    several_in(name, counts, DType::Float32, plain_card);
}

fn several_in(name: &str, counts: &[usize], dtype: DType, card: fn() -> Emulator) {
    let found = |count: usize| {
        let (cards, session) = session_on(name, count, dtype, card);
        let sequences = sequences(session.model());
        let mut found = captured(&session, &sequences);
        found.extend(experiments(&session, &sequences));
        for (index, card) in cards.iter().enumerate() {
            assert!(
                card.launches.get() > 0,
                "{name}: card {index} of {count} is idle"
            );
        }
        drop(session);
        for card in cards {
            assert!(card.memory.borrow().is_empty(), "memory is left");
        }
        found
    };
    let wanted = found(1);
    for count in counts {
        assert_equal(&format!("{name} on {count} cards"), &found(*count), &wanted);
    }
}

#[test]
fn a_llama_with_massive_activations() {
    several_find_what_one_finds("planted-llama", &[2, 3]);
}

#[test]
fn gemma2_with_windows_and_norms_behind() {
    several_find_what_one_finds("planted-gemma2", &[2, 3]);
}

/// In 16 bits, with the kernels that cards of capability 9.0 have for them.
#[test]
fn cards_of_capability_9_0() {
    let card = || hopper(plain_card());
    several_in("planted-gemma2", &[2], DType::BFloat16, card);
    several_in("planted-llama", &[2], DType::Float16, card);
}

#[test]
fn gpt2_with_learned_positions() {
    several_find_what_one_finds("planted-gpt2", &[2, 3]);
}

#[test]
fn mixtures_of_experts() {
    several_find_what_one_finds("mixtral", &[2]);
    several_find_what_one_finds("olmoe", &[3]);
}

#[test]
fn state_spaces_with_and_without_attention() {
    several_find_what_one_finds("falcon-h1", &[2]);
    several_find_what_one_finds("jamba", &[3]);
    several_find_what_one_finds("falcon-mamba", &[2]);
}

/// Keys and values, residual streams and key choices that go from layer to layer stay on their card.
#[test]
fn what_is_carried_from_layer_to_layer() {
    several_find_what_one_finds("gemma3n-text", &[2]);
    several_find_what_one_finds("glm-moe-dsa", &[2]);
    several_find_what_one_finds("deepseek-v4", &[3]);
}

/// Statistics alone, whose walk brings nothing but the layers' weights.
fn statistics(session: &Session) -> (String, usize) {
    let request = StatisticsRequest {
        top_k: 3,
        moments: true,
        abs_threshold: 1.0,
        rel_threshold: 5.0,
    };
    let plan = Plan::magnitudes(Site::LayerOutput, request);
    let sequences = sequences(session.model());
    let outcome = session.run(&sequences, &plan, &mut Discard);
    let outcome = outcome.expect("runs");
    (text(&outcome.statistics), outcome.walks)
}

/// Each weight comes once to each card, however many micro-batches pass; a card without a micro-batch gets
/// nothing.
#[test]
fn each_weight_comes_once_to_each_card_that_works() {
    let (one, alone) = session("planted-llama", 1);
    let (wanted, walks) = statistics(&alone);
    assert_eq!(walks, 1);
    let all = one[0].weights.take();
    assert!(all.len() > 4 * 6, "{} parts of files", all.len());
    assert!(all.values().all(|times| *times == 1));
    for count in [2, 3, 20] {
        let (cards, session) = session("planted-llama", count);
        let (found, walks) = statistics(&session);
        assert_eq!((found == wanted, walks), (true, 1), "{count}");
        let (working, idle): (Vec<_>, Vec<_>) =
            cards.iter().partition(|card| card.launches.get() > 0);
        for card in &working {
            assert!(*card.weights.borrow() == all, "other weights came");
        }
        for card in &idle {
            assert!(card.weights.borrow().is_empty());
        }
        let batches = one[0].launches.get();
        let launches: usize = working.iter().map(|card| card.launches.get()).sum();
        assert_eq!(launches, batches, "the same work, on {count} cards");
        match count {
            20 => assert_eq!(working.len(), 3),
            _ => assert_eq!(working.len(), count),
        }
    }
}

/// Weights stay on each card for the walks to come.
#[test]
fn weights_stay_on_each_card() {
    let (cards, session) = session("planted-llama", 2);
    session.expect_walks(3);
    let (first, _) = statistics(&session);
    for card in &cards {
        assert!(!card.weights.take().is_empty());
    }
    assert!(statistics(&session).0 == first);
    for card in &cards {
        assert!(card.weights.take().is_empty());
    }
}
