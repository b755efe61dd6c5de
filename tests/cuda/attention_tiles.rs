//! The tiles of the attention that any card runs: those of cards with little shared memory, and what keeps a tile's
//! copies and products apart, of which one mistake each (`emulator/planted/attention.cu`) is found.

use massact::model::dtype::DType;
use massact_emulator::{Emulator, Order};

use crate::attention::{Case, plain};

const HALVES: [DType; 2] = [DType::BFloat16, DType::Float16];

/// The least that a card of the kernels has for a block.
fn small(card: Emulator) -> Emulator {
    card.with_limits(|limits| limits.shared_bytes = 99 << 10)
}

/// Wide heads, by more keys than a tile has and more queries than a block; in parts; keys that queries choose.
fn wide() -> [Case; 5] {
    [
        Case {
            value_dim: 128,
            ..plain(&[270, 1], (2, 1), 192)
        },
        plain(&[140], (2, 1), 256),
        Case {
            window: Some(40),
            sinks: true,
            kv_bias: true,
            ..plain(&[131, 3], (2, 2), 200)
        },
        plain(&[101], (2, 1), 512),
        Case {
            value_dim: 301,
            chosen: Some(9),
            ..plain(&[60], (1, 1), 300)
        },
    ]
}

#[test]
fn wide_heads_on_any_card() {
    for case in wide() {
        case.check_on(&HALVES, Emulator::new);
        case.check_on(&HALVES, |order| small(Emulator::new(order)));
    }
}

#[test]
fn wide_heads_are_free_of_races() {
    let cases = [
        Case {
            value_dim: 128,
            ..plain(&[100], (1, 1), 192)
        },
        plain(&[66], (1, 1), 256),
        plain(&[40], (1, 1), 512),
    ];
    for case in cases {
        let right = case.on_card(DType::BFloat16, Emulator::new(Order::Forward));
        let checked = case.on_card(DType::BFloat16, Emulator::checked(Order::Random(3)));
        assert!(right.expect("runs").bits() == checked.expect("no mistake").bits());
        let checked = case.on_card(DType::BFloat16, small(Emulator::checked(Order::Random(3))));
        checked.expect("no mistake");
    }
}

/// Several tiles of narrower heads, whose keys and values are copied in turn.
#[test]
fn tiles_that_follow_each_other_are_free_of_races() {
    for (head_dim, dtype) in [
        (128, DType::BFloat16),
        (96, DType::Float16),
        (80, DType::BFloat16),
        (20, DType::Float16),
        (128, DType::Float32),
    ] {
        let case = plain(&[150], (1, 1), head_dim);
        let right = case.on_card(dtype, Emulator::new(Order::Forward));
        let checked = case.on_card(dtype, Emulator::checked(Order::Random(5)));
        let checked = checked.unwrap_or_else(|error| panic!("{head_dim} {dtype}: {error}"));
        assert!(right.expect("runs").bits() == checked.bits());
    }
}

#[test]
fn mistakes_in_the_kernel_are_found() {
    let case = plain(&[200], (1, 1), 64);
    let with = |card: Emulator, mistake: &str| {
        let planted = format!("attention_{mistake}");
        case.on_card(
            DType::BFloat16,
            card.with_kernel("attention_64_bf16", &planted),
        )
    };
    let right = case.on_card(DType::BFloat16, Emulator::new(Order::Forward));
    let without = with(Emulator::checked(Order::Reverse), "right");
    assert!(without.expect("no mistake").bits() == right.expect("runs").bits());
    for order in [Order::Forward, Order::Reverse, Order::Random(1)] {
        for (card, mistake, words) in [
            (
                Emulator::new(order),
                "waits_for_wrong_group",
                "cp.async not waited for",
            ),
            (
                Emulator::checked(order),
                "copies_keys_early",
                "race on shared memory",
            ),
        ] {
            let error = with(card, mistake).err().expect(mistake).to_string();
            assert!(error.contains(words), "{mistake}, {order:?}: {error}");
        }
    }
}
