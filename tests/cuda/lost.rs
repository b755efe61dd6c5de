//! A card that is lost in the middle of a run: whatever call is the first to fail, the run ends with that
//! error, and none after it hangs or panics.

use std::{cell::Cell, rc::Rc};

use massact::{
    Error, Result,
    backend::{
        StatisticsRequest,
        cuda::{
            Address, Argument, Boxes, Cuda, Device, Launch, Limits, Product, Source, TensorMap,
        },
    },
    engine::{Discard, Place, Plan, Session, Site},
    model::{demo, dtype::DType},
    progress::Progress,
};
use massact_emulator::{Emulator, Order};

/// An emulated card that answers so many calls and no more.
#[derive(Debug)]
struct Lost {
    card: Emulator,
    answers: Cell<usize>,
}

impl Lost {
    fn after(answers: usize) -> Self {
        Self {
            card: Emulator::new(Order::Forward),
            answers: Cell::new(answers),
        }
    }

    fn answer(&self) -> Result<()> {
        match self.answers.get().checked_sub(1) {
            Some(left) => {
                self.answers.set(left);
                Ok(())
            }
            None => Err(Error::new("cuda:0 (Lost card)", "the device is lost")),
        }
    }
}

impl Device for Lost {
    type Copying = <Emulator as Device>::Copying;

    fn limits(&self) -> Limits {
        self.card.limits()
    }
    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.answer()?;
        self.card.allocate(bytes)
    }
    fn release(&self, address: Address) {
        self.card.release(address);
    }
    fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.answer()?;
        self.card.write(to, bytes)
    }
    fn start_write(&self, to: Address, source: Source) -> Result<Self::Copying> {
        self.answer()?;
        self.card.start_write(to, source)
    }
    fn await_copy(&self, copying: Self::Copying) -> Result<()> {
        self.answer()?;
        self.card.await_copy(copying)
    }
    fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.answer()?;
        self.card.read(from, bytes)
    }
    fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        self.answer()?;
        self.card.copy(from, to, bytes)
    }
    fn clear(&self, address: Address, bytes: usize) -> Result<()> {
        self.answer()?;
        self.card.clear(address, bytes)
    }
    fn launch(&self, launch: &Launch<'_>, arguments: &[Argument<'_>]) -> Result<()> {
        self.answer()?;
        self.card.launch(launch, arguments)
    }
    fn tensor_map(&self, boxes: &Boxes<'_>) -> Result<TensorMap> {
        self.card.tensor_map(boxes)
    }
    fn multiply(&self, product: &Product) -> Result<()> {
        self.answer()?;
        self.card.multiply(product)
    }
}

#[test]
fn a_card_that_is_lost_at_any_call() {
    let request = StatisticsRequest {
        top_k: 2,
        abs_threshold: 100.0,
        rel_threshold: 1000.0,
        moments: false,
    };
    let plan = Plan {
        nll: true,
        ..Plan::magnitudes(Site::LayerOutput, request)
    };
    let place = Place {
        device: "cuda:0".to_owned(),
        card: Some("Lost card".to_owned()),
        tf32: false,
    };
    let mut refused = 0;
    for step in 0.. {
        // Every one of the first, which set up, then some.
        let answers = if step < 40 {
            step
        } else {
            40 + (step - 40) * 23
        };
        let card = Rc::new(Lost::after(answers));
        let cuda = Cuda::sharing(Rc::clone(&card), DType::Float32);
        let model = demo::open(demo::NAME).expect("built in");
        let session = Session::on(
            model,
            cuda,
            place.clone(),
            None,
            Some(1 << 30),
            Progress::silent(),
        );
        let sequences = [vec![0, 5, 9, 200, 31], vec![0, 7]];
        match session.run(&sequences, &plan, &mut Discard) {
            Ok(_) => break,
            Err(error) => {
                let error = error.to_string();
                assert!(
                    error.contains("cuda:0 (Lost card): the device is lost"),
                    "{error}"
                );
                refused += 1;
            }
        }
        // Nor does it recover by itself, or go on as if nothing had happened.
        assert!(session.run(&sequences, &plan, &mut Discard).is_err());
    }
    assert!(refused > 50, "{refused}");
}
