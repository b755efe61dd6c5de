//! Device memory: weights that stay and make room, and copies beside the computation.

use std::{cell::Cell, rc::Rc};

use massact::{
    Result,
    backend::{
        Backend, HeadRequest, Precision, Products, StatisticsRequest, Target, Tensors, Vocabulary,
        cpu::Cpu,
        cuda::{
            Address, Argument, Boxes, Cuda, Device, Launch, Limits, Product, Source, TensorMap,
        },
    },
    engine::{Discard, Place, Plan, Session, Site, run},
    model::{
        Model,
        config::Config,
        demo,
        dtype::DType,
        random,
        weights::{self, WeightStore},
    },
    progress::Progress,
};
use massact_emulator::{Emulator, Order};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use crate::{models::open, support::reference};

const STATISTICS: StatisticsRequest = StatisticsRequest {
    top_k: 2,
    abs_threshold: 100.0,
    rel_threshold: 1000.0,
    moments: false,
};

/// An emulated card that counts copies of weights, and may forget to wait for them.
#[derive(Debug)]
struct Watched {
    card: Emulator,
    copies: Cell<usize>,
    /// What comes in the order of the calls: lists, vectors, inputs.
    writes: Cell<usize>,
    /// The number of the copy that is not waited for.
    forgets: Option<u64>,
}

impl Watched {
    fn new(card: Emulator) -> Self {
        Self {
            card,
            copies: Cell::new(0),
            writes: Cell::new(0),
            forgets: None,
        }
    }
}

impl Device for Watched {
    type Copying = <Emulator as Device>::Copying;

    fn limits(&self) -> Limits {
        self.card.limits()
    }
    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.card.allocate(bytes)
    }
    fn release(&self, address: Address) {
        self.card.release(address);
    }
    fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.writes.set(self.writes.get() + 1);
        self.card.write(to, bytes)
    }
    fn start_write(&self, to: Address, source: Source) -> Result<Self::Copying> {
        self.copies.set(self.copies.get() + 1);
        self.card.start_write(to, source)
    }
    fn await_copy(&self, copying: Self::Copying) -> Result<()> {
        if Some(copying) == self.forgets {
            return Ok(());
        }
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
        self.card.multiply(product)
    }
}

fn plan() -> Plan {
    Plan {
        nll: true,
        ..Plan::magnitudes(Site::LayerOutput, STATISTICS)
    }
}

/// Likelihoods of a short text.
fn likelihoods<B: Backend>(backend: &B, model: &Model) -> Result<Vec<Vec<f32>>> {
    let sequences = [vec![0, 5, 9, 200, 31], vec![0, 7]];
    let progress = Progress::silent();
    let outcome = run(backend, model, &sequences, &plan(), &mut Discard, progress)?;
    Ok(outcome.token_nll)
}

fn model() -> Model {
    demo::open(demo::NAME).expect("built in")
}

/// Less than all weights take, in bytes.
const ROOM: usize = 1 << 22;

/// The second walk brings no weight that stayed, and the results are the same.
#[test]
fn weights_that_stay_are_brought_once() {
    let model = model();
    let device = Rc::new(Watched::new(Emulator::new(Order::Forward)));
    let cuda = Cuda::sharing(Rc::clone(&device), DType::Float32);
    let first = likelihoods(&cuda, &model).expect("runs");
    let walk = device.copies.take();
    assert_eq!(likelihoods(&cuda, &model).expect("runs"), first);
    assert_eq!(device.copies.take(), walk, "nothing stays unless asked for");

    cuda.keep_weights(1 << 30);
    assert_eq!(likelihoods(&cuda, &model).expect("runs"), first);
    assert_eq!(device.copies.take(), walk);
    assert_eq!(likelihoods(&cuda, &model).expect("runs"), first);
    assert_eq!(device.copies.take(), 0, "all is there");

    // What is too much goes, the rest is still there.
    cuda.keep_weights(ROOM);
    assert_eq!(likelihoods(&cuda, &model).expect("runs"), first);
    let brought = device.copies.take();
    assert!(0 < brought && brought < walk, "{brought} of {walk}");
}

/// The second walk brings no vector of a norm again, and no rotation.
#[test]
fn vectors_and_rotations_are_brought_once() {
    let model = model();
    let device = Rc::new(Watched::new(Emulator::new(Order::Forward)));
    let cuda = Cuda::sharing(Rc::clone(&device), DType::Float32);
    let first = likelihoods(&cuda, &model).expect("runs");
    let walk = device.writes.take();
    assert_eq!(likelihoods(&cuda, &model).expect("runs"), first);
    let again = device.writes.take();
    assert_eq!(likelihoods(&cuda, &model).expect("runs"), first);
    assert_eq!(device.writes.take(), again);
    let layers = model.spec.layers.len();
    let norms = 2 * layers + 1;
    assert!(again + norms <= walk, "{again} of {walk}, {layers} layers");
    println!("{again} of {walk} writes in later walks");
}

/// Models whose tensors have the same names do not get each other's vectors.
#[test]
fn vectors_are_of_their_model() {
    let [one, other] = ["planted-gpt2", "gpt2-f32"].map(|name| open(&reference::load(name)));
    let backend = || Cuda::new(Emulator::new(Order::Forward), DType::Float32);
    let found = |cuda: &Cuda<Emulator>, (model, sequences): &(Model, Vec<Vec<u32>>)| {
        let silent = Progress::silent();
        let outcome = run(cuda, model, sequences, &plan(), &mut Discard, silent);
        outcome.expect("runs").token_nll
    };
    let shared = backend();
    for opened in [&one, &other, &one] {
        assert_eq!(found(&shared, opened), found(&backend(), opened));
    }
}

/// Weights that stayed make room when memory runs out, and the results are the same.
#[test]
fn weights_make_room() {
    let model = model();
    let with_memory = |bytes: usize| {
        let card = Emulator::new(Order::Forward).with_limits(|limits| limits.memory_bytes = bytes);
        Rc::new(Watched::new(card))
    };
    let wanted = {
        let cuda = Cuda::sharing(with_memory(1 << 30), DType::Float32);
        likelihoods(&cuda, &model).expect("runs")
    };
    // The least that one walk needs when nothing stays.
    let fits = |bytes: usize| {
        let cuda = Cuda::sharing(with_memory(bytes), DType::Float32);
        match likelihoods(&cuda, &model) {
            Ok(found) => {
                assert_eq!(found, wanted);
                true
            }
            Err(error) => {
                assert!(error.is_out_of_memory(), "{error}");
                false
            }
        }
    };
    let (mut small, mut large) = (1 << 16, 1 << 26);
    while large - small > large / 16 {
        let middle = small + (large - small) / 2;
        if fits(middle) {
            large = middle;
        } else {
            small = middle;
        }
    }
    let device = with_memory(large);
    let cuda = Cuda::sharing(Rc::clone(&device), DType::Float32).keeping_weights(1 << 30);
    for _ in 0..3 {
        assert_eq!(
            likelihoods(&cuda, &model).expect("weights make room"),
            wanted
        );
    }
}

/// Sequences of 20 tokens.
fn short_sequences(count: u32) -> Vec<Vec<u32>> {
    let token = |i: u32, j: u32| (i * 31 + j * 7) % 50;
    (0..count)
        .map(|i| (0..20).map(|j| token(i, j)).collect())
        .collect()
}

/// A session halves what it runs at once until it fits, and returns what it returns with more memory.
#[test]
fn a_session_goes_on_in_smaller_parts() {
    let sequences = short_sequences(60);
    // Whose weights take less than the streams.
    let config = json!({
        "model_type": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "vocab_size": 50, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "hidden_act": "silu", "tie_word_embeddings": true,
    });
    let open = || random::open(config.to_string().as_bytes()).expect("opens");
    let found = |memory: usize| {
        let card = Emulator::new(Order::Forward).with_limits(|limits| limits.memory_bytes = memory);
        let cuda = Cuda::new(card, DType::Float32);
        // The budget says that all fits; the card knows better.
        let budget = Some(1 << 40);
        let session = Session::on(open(), cuda, place(), budget, None, Progress::silent());
        session.run(&sequences, &plan(), &mut Discard)
    };
    let all = found(1 << 30).expect("runs");
    assert_eq!(all.walks, 1);
    let mut memory = 1 << 20;
    loop {
        let less = found(memory).expect("runs in smaller parts");
        assert_eq!(less.token_nll, all.token_nll, "{memory} bytes");
        if less.walks > 1 {
            break;
        }
        memory = memory / 8 * 7;
    }
    let error = found(1 << 17).expect_err("not even one sequence fits");
    assert!(error.is_out_of_memory(), "{error}");
}

fn place() -> Place {
    Place {
        device: "cuda:0".to_owned(),
        card: Some("an emulated card".to_owned()),
        tf32: false,
    }
}

/// A session on an emulated card.
fn session(device: &Rc<Watched>, precision: Precision) -> Session {
    let cuda = Cuda::sharing(Rc::clone(device), precision);
    Session::on(
        model(),
        cuda,
        place(),
        None,
        Some(1 << 30),
        Progress::silent(),
    )
}

/// Weights stay where more than one walk is planned, and only there.
#[test]
fn a_session_keeps_weights_for_the_walks_to_come() {
    let sequences = [vec![1, 2, 3, 4]];
    let device = Rc::new(Watched::new(Emulator::new(Order::Forward)));
    let session = session(&device, DType::Float32.into());
    let copies = || {
        let outcome = session.run(&sequences, &plan(), &mut Discard);
        outcome.expect("runs");
        device.copies.take()
    };
    let walk = copies();
    assert_eq!(copies(), walk);
    session.expect_walks(2);
    assert_eq!(copies(), walk);
    assert_eq!(copies(), 0);
}

/// More values than anybody expects are massive where most values are zero: the walk is repeated with room for all.
#[test]
fn a_session_makes_room_for_what_it_finds() {
    let config = json!({
        "model_type": "nemotron", "hidden_size": 16, "intermediate_size": 512, "num_hidden_layers": 8,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 50,
        "max_position_embeddings": 64, "norm_eps": 1e-5, "hidden_act": "relu2",
    });
    let open = || random::open(config.to_string().as_bytes()).expect("opens");
    let sequences = short_sequences(6);
    let statistics = StatisticsRequest {
        abs_threshold: 0.0,
        ..STATISTICS
    };
    let plan = Plan::magnitudes(Site::MlpInner, statistics);
    let found = |session: Session| {
        let outcome = session.run(&sequences, &plan, &mut Discard).expect("runs");
        let layers = outcome.statistics[&Site::MlpInner].clone();
        let counts: Vec<usize> = layers
            .concat()
            .iter()
            .map(|one| one.massive.len())
            .collect();
        (outcome.walks, counts)
    };
    let wanted = found(Session::on_cpu(open(), Progress::silent()));
    // Room is for 16 of each token, in 16 micro-batches.
    let all: usize = wanted.1.iter().sum();
    assert!(all > 16 * 6 * 20 * 16, "{all} values");
    let device = Rc::new(Emulator::new(Order::Forward));
    let cuda = Cuda::sharing(device, DType::Float32);
    let on_card = Session::on(
        open(),
        cuda,
        place(),
        None,
        Some(1 << 30),
        Progress::silent(),
    );
    let (walks, counts) = found(on_card);
    assert_eq!((walks, counts.len()), (wanted.0, wanted.1.len()));
    for (count, wanted) in counts.iter().zip(&wanted.1) {
        // Sums that round to either side of zero.
        assert!(count.abs_diff(*wanted) <= 5, "{count}, {wanted}");
    }
}

/// What pages and run.json say of where a run computed is the session's own answer.
#[test]
fn a_session_says_where_it_computes() {
    let device = Rc::new(Watched::new(Emulator::new(Order::Forward)));
    let mixed = Precision::new(DType::BFloat16, DType::Float32).expect("a wider stream");
    let session = session(&device, mixed);
    assert_eq!(
        session.computed_in(),
        "bfloat16 on an emulated card, float32 stream"
    );
    assert_eq!(session.arithmetic(), mixed.to_string());
}

/// The next layer is asked for before this one computes, and every copy is waited for.
#[test]
fn a_forgotten_wait_is_found() {
    let model = model();
    let device = Watched::new(Emulator::new(Order::Forward));
    let cuda = Cuda::new(device, DType::BFloat16);
    assert!(cuda.loads_ahead());
    likelihoods(&cuda, &model).expect("waits for all copies");
    let copies = cuda.device().copies.get() as u64;
    for forgets in [0, copies / 2, copies - 1] {
        let device = Watched {
            forgets: Some(forgets),
            ..Watched::new(Emulator::new(Order::Forward))
        };
        let error = likelihoods(&Cuda::new(device, DType::BFloat16), &model);
        let error = error.expect_err("a wait is missing").to_string();
        // At its first use, or, where an earlier step reports its own error first, at its end.
        let found = [
            "has not been waited for",
            "while a copy to it was under way",
        ];
        assert!(found.iter().any(|words| error.contains(words)), "{error}");
    }
}

/// MXFP4 of 600 outputs and 64 inputs.
fn packed() -> WeightStore {
    let codes: Vec<u8> = (0..600 * 2 * 16).map(|at| (at * 7 % 251) as u8).collect();
    let scales = vec![127u8; 600 * 2];
    let tensors = [
        ("x_blocks", vec![600, 2, 16], &codes),
        ("x_scales", vec![600, 2], &scales),
    ]
    .map(|(name, shape, bytes)| {
        (
            name,
            TensorView::new(Dtype::U8, shape, bytes).expect("fits"),
        )
    });
    let file = safetensors::serialize(tensors, None).expect("a file");
    let mut store = weights::in_memory(vec![("file", file.into())]).expect("reads");
    let config = br#"{"quantization_config": {"quant_method": "mxfp4"}}"#;
    weights::recognise(&mut store, &Config::parse(config).expect("JSON")).expect("packed");
    store
}

/// Codes and scales of a packed matrix go up once for all that is made of them at the same time.
#[test]
fn parts_of_a_packed_matrix_share_its_bytes() {
    let store = packed();
    let whole = store.last_packed("x").expect("packed");
    let device = Rc::new(Watched::new(Emulator::new(Order::Forward)));
    let cuda = Cuda::sharing(Rc::clone(&device), DType::Float32).with_vocabulary_piece(256);
    let cpu = Cpu::new();
    let units = |columns: usize| {
        let mut units = vec![0.0; columns * columns];
        units.iter_mut().step_by(columns + 1).for_each(|x| *x = 1.0);
        units
    };
    let x = cuda.upload(64, 64, units(64)).expect("fits");

    // Two projections of a fused matrix.
    let matrices = [0, 1].map(|first| whole.grouped(first, 1, 2, 300));
    let weights = matrices.map(|matrix| cuda.matrix(matrix.into()).expect("fits"));
    assert_eq!(device.copies.take(), 2);
    for (matrix, weight) in matrices.into_iter().zip(&weights) {
        let got = cuda.linear(&x, weight, None, Target::Part).expect("runs");
        let units = cpu.upload(64, 64, units(64)).expect("fits");
        let weight = cpu.matrix(matrix.into()).expect("fits");
        let wanted = cpu
            .linear(&units, &weight, None, Target::Part)
            .expect("runs");
        assert_eq!(
            cuda.download(&got).expect("there"),
            cpu.download(&wanted).expect("there")
        );
    }
    // Nobody needs them any more: they come again.
    cuda.matrix(whole.into()).expect("fits");
    assert_eq!(device.copies.take(), 2);

    // Pieces of a head.
    let head = HeadRequest {
        weight: whole.into(),
        bias: None,
        scale: 1.0,
        soft_cap: None,
    };
    let targets = [Some(599); 64];
    cuda.token_nll(&x, &head, &targets).expect("runs");
    assert_eq!(device.copies.take(), 2);
}

/// Packed weights stay as they are packed, in less room than their values take.
#[test]
fn packed_weights_stay_packed() {
    let store = packed();
    let whole = store.last_packed("x").expect("packed");
    let device = Rc::new(Watched::new(Emulator::new(Order::Forward)));
    let cuda = Cuda::sharing(Rc::clone(&device), DType::Float32);
    let x = cuda.upload(1, 64, vec![1.0; 64]).expect("fits");
    let product = || {
        let weight = cuda.matrix(whole.into()).expect("fits");
        let product = cuda.linear(&x, &weight, None, Target::Part).expect("runs");
        (
            cuda.download(&product).expect("there"),
            device.copies.take(),
        )
    };
    let bytes = 600 * 2 * 17;
    let (first, _) = product();
    cuda.keep_weights(bytes - 1);
    assert_eq!(product(), (first.clone(), 2), "no room");
    assert_eq!(product(), (first.clone(), 2));
    cuda.keep_weights(bytes);
    assert_eq!(product(), (first.clone(), 2));
    assert_eq!(product(), (first.clone(), 0));
    cuda.keep_weights(0);
    assert_eq!(product(), (first, 2));
}
