//! Attention's kernels for compute capability 9.0, the output's and its parts', that of what keys receive and that of
//! maps, on an emulated card of that kind, against the CPU backend; and with one mistake each
//! (`emulator/planted/hopper_attention.cu`, `hopper_sink.cu`, `hopper_maps.cu`, `hopper_subset.cu`), which is found.

use std::{collections::BTreeSet, rc::Rc};

use massact::{
    backend::cuda::Cuda,
    model::{dtype::DType, spec::Alibi},
};
use massact_emulator::{Emulator, Order};

use crate::attention::{Case, caches_agree, little_weight_has_digits, plain};

/// With it the second block's first query sees of the first keys of a map's kernel, 96, the last one alone.
const EDGE_WINDOW: usize = 34;
const DTYPES: [DType; 2] = [DType::BFloat16, DType::Float16];

pub(crate) fn hopper(card: Emulator) -> Emulator {
    card.with_limits(|limits| limits.capability = (9, 0))
}

fn check(case: &Case) {
    case.check_on(&DTYPES, |order| hopper(Emulator::new(order)));
}

/// The kernels that a case starts, each once however often it does.
fn started(case: &Case, dtype: DType, card: Emulator) -> BTreeSet<String> {
    let card = Rc::new(card);
    let cuda = Cuda::sharing(Rc::clone(&card), dtype);
    case.computed(&cuda, dtype).expect("runs");
    let names = card.launches().into_iter();
    names
        .filter(|name| name.starts_with("attention_"))
        .collect()
}

#[test]
fn cards_of_capability_9_0_have_their_own_kernels() {
    let widths = |head_dim, value_dim| Case {
        value_dim,
        ..plain(&[3], (1, 1), head_dim)
    };
    let names = |kernels: &[&str], suffix: &str| -> BTreeSet<String> {
        let names = kernels.iter();
        names
            .map(|kernel| format!("attention_{kernel}_{suffix}"))
            .collect()
    };
    for (case, dtype, width, again) in [
        (widths(8, 8), DType::BFloat16, 64, 64),
        (widths(80, 80), DType::Float16, 96, 96),
        (widths(192, 128), DType::Float16, 192, 192),
        (widths(192, 192), DType::BFloat16, 256, 192),
        (widths(64, 128), DType::BFloat16, 128, 64),
    ] {
        let [output, subset] = ["hopper", "subset_hopper"].map(|what| format!("{what}_{width}"));
        let [sink, maps] = ["sink_hopper", "maps_hopper"].map(|what| format!("{what}_{again}"));
        let suffix = if dtype == DType::BFloat16 {
            "bf16"
        } else {
            "f16"
        };
        let card = hopper(Emulator::new(Order::Forward));
        assert_eq!(
            started(&case, dtype, card),
            names(&[&output, &subset, &sink, &maps], suffix),
            "{width}"
        );
    }
    let others = |width, suffix| names(&[width, "subset", "sink", "maps"], suffix);
    for (case, dtype, expected) in [
        (widths(12, 12), DType::BFloat16, others("32", "bf16")),
        (
            widths(264, 264),
            DType::BFloat16,
            others("512_roomy", "bf16"),
        ),
        (
            widths(64, 264),
            DType::BFloat16,
            others("512_roomy", "bf16"),
        ),
        (widths(64, 64), DType::Float32, others("64", "f32")),
        (
            Case {
                chosen: Some(2),
                ..widths(64, 64)
            },
            DType::BFloat16,
            others("64", "bf16"),
        ),
    ] {
        let card = hopper(Emulator::new(Order::Forward));
        assert_eq!(started(&case, dtype, card), expected);
    }
    for capability in [(8, 0), (10, 0)] {
        let card = Emulator::new(Order::Forward);
        let card = card.with_limits(|limits| limits.capability = capability);
        let found = started(&widths(64, 64), DType::BFloat16, card);
        assert_eq!(found, others("64", "bf16"));
    }
}

#[test]
fn heads_at_a_time() {
    caches_agree(&DTYPES, || hopper(Emulator::new(Order::Random(3))));
    // Several tiles of a sequence, of queries and of keys.
    let case = plain(&[130, 200], (4, 2), 64);
    let found = [0, 1 << 30].map(|cache_bytes| {
        let card = hopper(Emulator::new(Order::Forward));
        let card = card.with_limits(|limits| limits.cache_bytes = cache_bytes);
        case.on_card(DType::BFloat16, card).expect("runs").bits()
    });
    assert!(found[0] == found[1]);
}

#[test]
fn parts_of_little_weight() {
    little_weight_has_digits(&DTYPES, || hopper(Emulator::new(Order::Random(3))));
}

#[test]
fn lengths_around_the_tiles() {
    for lengths in [
        &[1][..],
        &[63],
        &[64],
        &[65],
        &[127],
        &[130],
        &[257],
        &[65, 1, 2, 130],
    ] {
        check(&plain(lengths, (2, 2), 64));
    }
}

#[test]
fn every_width_of_heads() {
    for head_dim in [8, 16, 64, 72, 80, 96, 104, 128, 200, 256] {
        check(&plain(&[70, 133], (2, 1), head_dim));
    }
}

#[test]
fn values_of_another_width() {
    for (head_dim, value_dim) in [(192, 128), (24, 16), (16, 64), (64, 128), (136, 72)] {
        let case = plain(&[150], (2, 1), head_dim);
        check(&Case { value_dim, ..case });
    }
}

/// More tiles than the rings have stages.
#[test]
fn rings_that_go_around() {
    for (head_dim, length) in [(64, 650), (96, 520), (128, 400), (192, 390), (256, 330)] {
        check(&plain(&[length], (1, 1), head_dim));
    }
}

#[test]
fn grouped_heads() {
    for heads in [(3, 1), (6, 2), (7, 1), (16, 1), (17, 1), (10, 2)] {
        check(&plain(&[67, 5], heads, 64));
    }
    check(&plain(&[150, 1], (6, 2), 128));
    check(&plain(&[150, 1], (7, 1), 256));
}

#[test]
fn windows_narrower_and_wider_than_a_tile() {
    for window in [1, 3, EDGE_WINDOW, 64, 100, 150, 1000] {
        let window = Some(window);
        check(&Case {
            window,
            ..plain(&[330, 3], (2, 1), 64)
        });
        check(&Case {
            window,
            ..plain(&[150, 3], (3, 1), 128)
        });
    }
}

#[test]
fn chunks_narrower_and_wider_than_a_tile() {
    for (chunk, window) in [(1, None), (7, None), (64, Some(40)), (100, Some(70))] {
        check(&Case {
            chunk: Some(chunk),
            window,
            ..plain(&[200, 3], (3, 1), 64)
        });
    }
    for (chunk, window) in [(150, None), (300, Some(140))] {
        check(&Case {
            chunk: Some(chunk),
            window,
            ..plain(&[420], (1, 1), 64)
        });
    }
}

#[test]
fn soft_cap_alibi_sinks_and_extra_keys() {
    let case = plain(&[140, 2], (6, 2), 64);
    let falcon = Alibi {
        bfloat16: true,
        factor: 0.25,
        ..Alibi::new(6)
    };
    let mpt = Alibi {
        from_last: true,
        ..Alibi::exact(6)
    };
    for case in [
        Case {
            soft_cap: Some(0.7),
            ..case.clone()
        },
        Case {
            soft_cap: Some(30.0),
            window: Some(70),
            ..case.clone()
        },
        Case {
            alibi: Some(falcon),
            ..case.clone()
        },
        Case {
            alibi: Some(mpt),
            kv_bias: true,
            ..case.clone()
        },
        Case {
            sinks: true,
            ..case.clone()
        },
        Case {
            kv_bias: true,
            window: Some(2),
            ..case.clone()
        },
        Case {
            alibi: Some(Alibi::new(6)),
            soft_cap: Some(5.0),
            sinks: true,
            kv_bias: true,
            ..case
        },
        Case {
            sinks: true,
            kv_bias: true,
            value_dim: 128,
            ..plain(&[140, 70], (7, 1), 192)
        },
    ] {
        check(&case);
    }
}

/// The checker follows every access: no race, no uninitialised or foreign memory is read, and what threads
/// write is fenced before products read it.
#[test]
fn the_kernels_are_free_of_races() {
    let cases = [
        Case {
            window: Some(100),
            sinks: true,
            kv_bias: true,
            ..plain(&[150, 1], (3, 1), 64)
        },
        Case {
            chunk: Some(70),
            ..plain(&[130, 3], (2, 1), 96)
        },
        Case {
            value_dim: 128,
            ..plain(&[70], (1, 1), 192)
        },
        plain(&[200], (1, 1), 256),
        Case {
            soft_cap: Some(5.0),
            ..plain(&[260], (1, 1), 128)
        },
    ];
    for case in cases {
        for (dtype, orders) in [
            (
                DType::BFloat16,
                &[Order::Forward, Order::Reverse, Order::Random(3)][..],
            ),
            (DType::Float16, &[Order::Random(4)]),
        ] {
            let plain = case.on_card(dtype, hopper(Emulator::new(Order::Forward)));
            let plain = plain.expect("runs");
            for &order in orders {
                let checked = case.on_card(dtype, hopper(Emulator::checked(order)));
                let checked = checked.unwrap_or_else(|error| panic!("{dtype}: {error}"));
                assert!(plain.bits() == checked.bits(), "{dtype}, {order:?}");
            }
        }
    }
}

#[test]
fn mistakes_in_the_kernel_are_found() {
    // Heads that leave rows over, and more tiles than stages.
    let case = plain(&[560], (3, 1), 64);
    let right = case.on_card(DType::BFloat16, hopper(Emulator::new(Order::Forward)));
    let right = right.expect("runs");
    let with = |card: Emulator, mistake: &str| {
        let planted = format!("attention_{mistake}");
        let card = hopper(card).with_kernel("attention_hopper_64_bf16", &planted);
        case.on_card(DType::BFloat16, card)
    };
    let faultless = with(Emulator::new(Order::Reverse), "faultless");
    assert!(faultless.expect("runs").bits() == right.bits());
    for order in [Order::Forward, Order::Reverse, Order::Random(1)] {
        // Scores are no numbers until they were waited for; their keys may be written over before that.
        match with(Emulator::new(order), "reads_scores_early") {
            Ok(found) => assert!(
                found.context.iter().any(|value| value.is_nan()),
                "{order:?}"
            ),
            Err(error) => assert!(error.to_string().contains("not delivered"), "{error}"),
        }
        for (card, mistake, words) in [
            (
                Emulator::new(order),
                "uses_keys_before_arrival",
                "which a tensor copy has not delivered",
            ),
            (
                Emulator::new(order),
                "fills_unread_stages",
                "more arrivals than the 1 of the phase",
            ),
            (
                Emulator::new(order),
                "releases_stages_early",
                "which a tensor copy has not delivered",
            ),
            (
                Emulator::checked(order),
                "releases_stages_early",
                "race on shared memory",
            ),
            (
                Emulator::checked(order),
                "leaves_out_proxy_fence",
                "no fence.proxy.async between",
            ),
        ] {
            let error = with(card, mistake).err().expect("reported").to_string();
            assert!(error.contains(words), "{mistake}, {order:?}: {error}");
        }
    }
}

/// Of the kernel that finds what keys receive, beside those of the ring that it shares with the other.
#[test]
fn mistakes_in_the_kernel_of_the_sinks_are_found() {
    let case = plain(&[300], (3, 1), 64);
    let right = case.on_card(DType::BFloat16, hopper(Emulator::new(Order::Forward)));
    let right = right.expect("runs").bits();
    let with = |card: Emulator, mistake: &str| {
        let planted = format!("sink_{mistake}");
        let card = hopper(card).with_kernel("attention_sink_hopper_64_bf16", &planted);
        case.on_card(DType::BFloat16, card)
    };
    let faultless = with(Emulator::new(Order::Reverse), "faultless");
    assert!(faultless.expect("runs").bits() == right);
    for order in [Order::Forward, Order::Reverse, Order::Random(1)] {
        // Scores are no numbers until they were waited for.
        for mistake in ["reads_scores_early", "hides_last_viewers"] {
            let wrong = with(Emulator::new(order), mistake);
            assert!(
                wrong.map_or(true, |found| found.bits() != right),
                "{mistake}"
            );
        }
        for (card, mistake, words) in [
            (
                Emulator::new(order),
                "uses_keys_before_arrival",
                "which a tensor copy has not delivered",
            ),
            (
                Emulator::checked(order),
                "reads_log_sums_early",
                // Of what another thread has not written yet, or a race.
                "shared memory",
            ),
        ] {
            let error = with(card, mistake).err().expect("reported").to_string();
            assert!(error.contains(words), "{mistake}, {order:?}: {error}");
        }
    }
}

/// Of the kernel that makes maps: what the emulator reports, and what the comparison with the CPU backend finds.
#[test]
fn mistakes_in_the_kernel_of_the_maps_are_found() {
    // More heads, and more heads of keys, than stages; the window ends with a block of keys.
    let case = Case {
        window: Some(EDGE_WINDOW),
        ..plain(&[240], (12, 6), 64)
    };
    let dtype = DType::BFloat16;
    let with = |card: Emulator, mistake: &str| {
        let planted = format!("maps_{mistake}");
        let card = hopper(card).with_kernel("attention_maps_hopper_64_bf16", &planted);
        case.on_card(dtype, card)
    };
    for order in [Order::Forward, Order::Reverse, Order::Random(1)] {
        let compared = |mistake: &str| {
            let found = with(Emulator::new(order), mistake).expect("runs");
            case.compare(dtype, &found)
        };
        assert_eq!(compared("faultless"), Ok(()), "{order:?}");
        for mistake in [
            "hides_first_keys",
            "hides_own_keys",
            "leaves_out_blocks",
            "weighs_by_the_first_head",
        ] {
            let wrong = compared(mistake).expect_err(mistake);
            assert!(
                wrong.starts_with("mean probabilities"),
                "{mistake}: {wrong}"
            );
        }
        for (card, mistake, words) in [
            (
                Emulator::new(order),
                "uses_queries_before_arrival",
                "which a tensor copy has not delivered",
            ),
            (
                Emulator::new(order),
                "uses_keys_before_arrival",
                "which a tensor copy has not delivered",
            ),
            (
                Emulator::new(order),
                "reads_scores_early",
                "wgmma not waited for",
            ),
            (
                Emulator::checked(order),
                "releases_queries_early",
                "race on shared memory",
            ),
            // As many arrivals as end a phase, but not of one tile.
            (
                Emulator::new(order),
                "releases_keys_at_every_head",
                "deadlock",
            ),
            (Emulator::new(order), "keeps_queries", "deadlock"),
            (Emulator::new(order), "keeps_keys", "deadlock"),
        ] {
            let error = with(card, mistake).err().expect(mistake).to_string();
            assert!(error.contains(words), "{mistake}, {order:?}: {error}");
        }
    }
}

/// Of the kernel of the parts, beside those that it shares with the output's.
#[test]
fn mistakes_in_the_kernel_of_the_parts_are_found() {
    let case = plain(&[150, 40, 200], (3, 1), 64);
    let dtype = DType::BFloat16;
    for order in [Order::Forward, Order::Reverse, Order::Random(1)] {
        let compared = |mistake: &str| {
            let planted = format!("subset_{mistake}");
            let card = hopper(Emulator::new(order));
            let card = card.with_kernel("attention_subset_hopper_64_bf16", &planted);
            case.compare(dtype, &case.on_card(dtype, card).expect("runs"))
        };
        assert_eq!(compared("faultless"), Ok(()), "{order:?}");
        for mistake in [
            "hides_nothing",
            "hides_the_next_keys",
            "divides_by_its_own_weights",
        ] {
            let wrong = compared(mistake).expect_err(mistake);
            assert!(wrong.starts_with("subset"), "{mistake}: {wrong}");
        }
    }
}
