//! Long runs on a card: streams that wait on the host or in a file, and how memory and work grow.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use massact::{
    Result,
    backend::{
        AttentionCapture, Change, Statistics, StatisticsRequest,
        cuda::{
            Address, Argument, Boxes, Cuda, Device, Launch, Limits, Product, Source, TensorMap,
        },
    },
    engine::{
        Actions, Branch, Discard, Footprint, Observer, Outcome, Overwrite, Place, Plan, Session,
        Site, Wants, run,
    },
    model::{Model, dtype::DType, random},
    progress::Progress,
};
use massact_emulator::{Emulator, Order};
use serde_json::json;

/// An emulated card that counts memory in use and operations of products.
#[derive(Debug)]
struct Counted {
    card: Emulator,
    sizes: RefCell<HashMap<u64, usize>>,
    used: Cell<usize>,
    most: Cell<usize>,
    flops: Cell<usize>,
}

impl Counted {
    fn new() -> Self {
        Self {
            card: Emulator::new(Order::Forward),
            sizes: RefCell::default(),
            used: Cell::new(0),
            most: Cell::new(0),
            flops: Cell::new(0),
        }
    }
}

impl Device for Counted {
    type Copying = <Emulator as Device>::Copying;

    fn limits(&self) -> Limits {
        self.card.limits()
    }
    fn allocate(&self, bytes: usize) -> Result<Address> {
        let address = self.card.allocate(bytes)?;
        self.sizes.borrow_mut().insert(address.0, bytes);
        self.used.set(self.used.get() + bytes);
        self.most.set(self.most.get().max(self.used.get()));
        Ok(address)
    }
    fn release(&self, address: Address) {
        let bytes = self.sizes.borrow_mut().remove(&address.0);
        self.used.set(self.used.get() - bytes.unwrap_or(0));
        self.card.release(address);
    }
    fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.card.write(to, bytes)
    }
    fn start_write(&self, to: Address, source: Source) -> Result<Self::Copying> {
        self.card.start_write(to, source)
    }
    fn await_copy(&self, copying: Self::Copying) -> Result<()> {
        self.card.await_copy(copying)
    }
    fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.card.read(from, bytes)
    }
    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.card.copy(from, to, bytes)
    }
    fn clear(&self, address: Address, bytes: usize) -> Result<()> {
        self.card.clear(address, bytes)
    }
    fn launch(&self, launch: &Launch<'_>, arguments: &[Argument<'_>]) -> Result<()> {
        self.card.launch(launch, arguments)
    }
    fn tensor_map(&self, boxes: &Boxes<'_>) -> Result<TensorMap> {
        self.card.tensor_map(boxes)
    }
    fn multiply(&self, product: &Product) -> Result<()> {
        self.flops
            .set(self.flops.get() + 2 * product.m * product.n * product.k);
        self.card.multiply(product)
    }
}

/// Layers whose weights are far larger than the streams of short sequences.
fn model(layers: usize, inner: usize) -> Model {
    let config = json!({
        "model_type": "llama", "hidden_size": 32, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 50, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true,
    });
    random::open(config.to_string().as_bytes()).expect("runs")
}

const TOKENS: usize = 20;

fn sequences(count: usize, tokens: usize) -> Vec<Vec<u32>> {
    let sequence = |i: usize| {
        (0..tokens)
            .map(|j| ((i * 31 + j * 7) % 50) as u32)
            .collect()
    };
    (0..count).map(sequence).collect()
}

fn plan(variants: usize) -> Plan {
    let statistics = StatisticsRequest {
        top_k: 2,
        abs_threshold: 100.0,
        rel_threshold: 1000.0,
        moments: false,
    };
    Plan {
        nll: true,
        variants,
        ..Plan::magnitudes(Site::LayerOutput, statistics)
    }
}

/// What one sequence needs, in micro-batches of one.
fn footprint(model: &Model, variants: usize) -> Footprint {
    let wants = Wants {
        tokens: TOKENS,
        variants,
        statistics: Some(plan(variants).statistics),
        ..Wants::default()
    };
    let card = Cuda::new(Emulator::new(Order::Forward), DType::BFloat16);
    Footprint::on(&card, &model.spec, wants, TOKENS)
}

/// The run on a card, or on one whose memory is the host's.
fn found(model: Model, count: usize, variants: usize, budget: u64, card: bool) -> Result<Outcome> {
    found_on(1, model, (count, variants), budget, card)
}

/// The same on several.
fn found_on(
    cards: usize,
    model: Model,
    (count, variants): (usize, usize),
    budget: u64,
    card: bool,
) -> Result<Outcome> {
    let cuda = |_| Cuda::new(Emulator::new(Order::Forward), DType::BFloat16);
    let cards = (0..cards).map(cuda).collect();
    let place = Place {
        device: "cuda:0".to_owned(),
        card: card.then(|| "an emulated card".to_owned()),
        tf32: false,
    };
    let session = Session::on_cards(model, cards, place, Some(budget), None, Progress::silent());
    session.run(
        &sequences(count, TOKENS),
        &plan(variants),
        &mut Zeros { variants },
    )
}

/// Splits variants off after the first layer, each with another value set to zero.
struct Zeros {
    variants: usize,
}

impl Observer for Zeros {
    fn acts_at(&self, layer: usize, _sequences: &[usize]) -> bool {
        layer == 0 && self.variants > 0
    }

    fn actions(&mut self, layer: usize, _sequence: usize, _found: &Statistics) -> Result<Actions> {
        let branch = |variant: usize| Branch {
            variant,
            overwrites: BTreeMap::from([(
                layer,
                vec![Overwrite {
                    position: 3,
                    dimension: variant,
                    change: Change::Set(5.0),
                }],
            )]),
            edits: Vec::new(),
            heads_off: Vec::new(),
        };
        Ok(Actions {
            read: Vec::new(),
            branches: (0..self.variants).map(branch).collect(),
        })
    }
}

/// Reading the weights four times would move more than the streams do: one walk, and the same results.
#[test]
fn streams_wait_on_the_host_where_that_moves_less() {
    let all = found(model(3, 512), 12, 0, 1 << 40, true).expect("runs");
    assert_eq!((all.walks, all.spilled.to_host), (1, 0));
    let own = footprint(&model(3, 512), 0);
    let budget = own.fixed + 3 * own.streams_of_batch;
    let less = found(model(3, 512), 12, 0, budget, true).expect("runs");
    assert_eq!(less.walks, 1);
    // Ten of twelve streams in float32, before the first layer and after each.
    let stream = (TOKENS * 32 * 4) as u64;
    assert_eq!(
        (less.spilled.to_host, less.spilled.to_file),
        (4 * 10 * stream, 0)
    );
    assert_eq!(less.token_nll, all.token_nll);
    assert_eq!(less.statistics, all.statistics);
}

/// Each of two cards has six of the twelve streams, and room for two that wait.
#[test]
fn streams_of_several_cards_wait_on_the_host() {
    let own = footprint(&model(3, 512), 0);
    let budget = own.fixed + 3 * own.streams_of_batch;
    for variants in [0, 1] {
        let all = found(model(3, 512), 12, variants, 1 << 40, true).expect("runs");
        let budget = budget + 2 * variants as u64 * own.streams_of_batch;
        let shared = found_on(2, model(3, 512), (12, variants), budget, true).expect("runs");
        let away = shared.spilled.to_host / (TOKENS * 32 * 4) as u64;
        match variants {
            0 => assert_eq!((shared.walks, away), (1, 4 * 8)),
            _ => assert!(shared.walks == 1 && away > 0, "{away}"),
        }
        assert_eq!(shared.spilled.to_file, 0);
        assert_eq!(shared.token_nll, all.token_nll);
        assert_eq!(shared.statistics, all.statistics);
        assert_eq!(shared.branches, all.branches);
        assert_eq!(shared.branches.len(), 12 * variants);
    }
}

/// Where the weights are small beside the streams they are read again instead.
#[test]
fn weights_are_read_again_where_that_moves_less() {
    let own = footprint(&model(3, 4), 0);
    let budget = own.fixed + 3 * own.streams_of_batch;
    let found = found(model(3, 4), 12, 0, budget, true).expect("runs");
    assert_eq!((found.walks, found.spilled.to_host), (4, 0));
}

/// Branches of one sequence that the device has no room for: on the host, or in a file where the device's memory
/// is the host's. Without waiting it would be refused.
#[test]
fn branches_of_one_sequence_wait() {
    let all = found(model(2, 64), 1, 4, 1 << 40, true).expect("runs");
    let own = footprint(&model(2, 64), 4);
    let budget = own.fixed + own.streams_of_batch / 5 * 3;
    for card in [true, false] {
        let less = found(model(2, 64), 1, 4, budget, card).expect("runs");
        assert_eq!(less.branches, all.branches);
        assert!(
            less.branches
                .iter()
                .all(|branch| branch.token_nll.len() == TOKENS - 1)
        );
        let waited = [less.spilled.to_host > 0, less.spilled.to_file > 0];
        assert_eq!(waited, [card, !card]);
    }
    let error = found(model(2, 64), 1, 4, own.fixed, true).expect_err("no room for a stream");
    assert!(error.to_string().contains("memory"), "{error}");
}

/// Most memory and all operations of a run that looks at statistics and sinks.
fn grown(layers: usize, count: usize, tokens: usize) -> (usize, usize) {
    let device = Rc::new(Counted::new());
    let cuda = Cuda::sharing(Rc::clone(&device), DType::Float32);
    let plan = Plan {
        attention: AttentionCapture {
            sink: true,
            ..AttentionCapture::default()
        },
        ..plan(0)
    };
    let (ids, silent) = (sequences(count, tokens), Progress::silent());
    run(&cuda, &model(layers, 64), &ids, &plan, &mut Discard, silent).expect("runs");
    (device.most.get(), device.flops.get())
}

/// Counted, not timed: memory is linear in tokens and flat in layers, operations of products are linear in
/// sequences, tokens and layers.
#[test]
fn memory_and_work_grow_as_they_must() {
    // Shorter ones need less than a layer's weights on their way do.
    let (short, middle, long) = (grown(2, 1, 1600), grown(2, 1, 2400), grown(2, 1, 3200));
    let left = grown(6, 1, 1600).0 - short.0;
    let (first, second) = (middle.0 - short.0, long.0 - middle.0);
    assert!(second * 10 < first * 11, "{short:?} {middle:?} {long:?}");
    assert_eq!(long.1 - middle.1, middle.1 - short.1);
    let short = grown(2, 1, 400);
    let deep = grown(6, 1, 400);
    // What statistics leave on the device, layer by layer, however many tokens there are.
    assert_eq!(deep.0 - short.0, left);
    assert!(left < 4 * 40_000, "{left}");
    let deeper = grown(10, 1, 400);
    assert_eq!(deeper.1 - deep.1, deep.1 - short.1);
    let (two, three) = (grown(2, 2, 400), grown(2, 3, 400));
    assert_eq!(three.1 - two.1, two.1 - short.1);
}
