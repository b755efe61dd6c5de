//! `massact selftest`

use std::rc::Rc;

use clap::Args;

use super::args::DTypeArg;
use crate::{
    backend::{
        Precision, Tensors,
        cuda::{
            Cuda,
            driver::{Driver, Options},
        },
    },
    engine::Device,
    error::{Error, Result},
    model::dtype::DType,
    progress::Progress,
    report::{
        number::significant,
        table::{Align, Row, Table},
    },
    selftest::{self, Check, Extent, Report},
};

/// Does this machine's card compute what the CPU computes? Every operation and small models, in
/// float32, bfloat16 and float16.
#[derive(Debug, Args)]
pub(super) struct SelftestArgs {
    /// `cuda[:N]`; auto is the first card that can be used.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Only in this type.
    #[arg(long, value_enum, default_value_t = DTypeArg::Auto)]
    dtype: DTypeArg,
    /// Small shapes only, for tools that follow every access of memory.
    #[arg(long)]
    quick: bool,
    /// No progress.
    #[arg(long)]
    quiet: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print every check as a line of JSON as soon as it is made.
    #[arg(long, conflicts_with = "json")]
    lines: bool,
    /// Begin with this step, as --lines numbers them.
    #[arg(long, default_value_t = 0)]
    from: usize,
}

pub(super) fn run(args: &SelftestArgs) -> Result<()> {
    let mut cards = Device::named(&args.device).map_err(needs_a_card)?;
    if cards.len() > 1 {
        return Err(Error::usage(
            format!("--device {}", args.device),
            "selftest compares one card with the CPU",
        )
        .remedy("test each card by itself, with --device cuda:N"));
    }
    let card = cards.pop().ok_or_else(|| {
        Error::usage(
            "--device cpu",
            "selftest needs a card, to compare it with the CPU",
        )
        .remedy(
            "without a card there is nothing to test: the other commands run on the CPU as they are",
        )
    })?;
    let extent = if args.quick {
        Extent::Quick
    } else {
        Extent::Full
    };
    let progress = Progress::new(args.quiet);
    let mut checks = Vec::new();
    let (device, name) = (format!("cuda:{}", card.index), card.name.clone());
    let driver = Rc::new(Driver::open(card, Options::default())?);
    let dtypes = args
        .dtype
        .stated()
        .map_or(DType::ALL.to_vec(), |dtype| vec![dtype]);
    let (mut start, mut stopped) = (0, None);
    for precision in dtypes.into_iter().flat_map(precisions) {
        let cuda = Cuda::sharing(Rc::clone(&driver), precision);
        let first = args.from.saturating_sub(start);
        let ended = selftest::run_from(&cuda, extent, first, progress, &mut |step, check| {
            if args.lines {
                line(start + step, &check)?;
            }
            let failed = check.failure.is_some();
            checks.push(check);
            if failed && cuda.synchronise().is_err() {
                return Err(
                    Error::new(&device, "it does not work any more after this check")
                        .remedy(format!("go on with --from {}", start + step + 1)),
                );
            }
            Ok(())
        });
        if let Err(error) = ended {
            // What was found until then is told first.
            stopped = Some(error);
            break;
        }
        start += selftest::steps(precision, extent);
    }
    let report = Report::new(device, name, extent, checks);
    if args.lines {
        // They are printed.
    } else if args.json {
        let document = serde_json::to_value(&report);
        super::print_json(&document.map_err(|error| Error::new("selftest", error))?)?;
    } else {
        table(&report.checks).print()?;
    }
    if let Some(error) = stopped {
        return Err(error);
    }
    let of = report.checks.len();
    if !report.good {
        let failed = report.checks.iter().filter(|check| !check.passed).count();
        let subject = format!("{}, {}", report.device, report.card);
        return Err(
            Error::new(subject, format!("{failed} of {of} checks failed")).remedy(
                "report them with the output of `massact selftest --json` and `massact devices --json`",
            ),
        );
    }
    if !args.json && !args.lines {
        super::print_line(&format!(
            "\nthis card is good: {}, {of} checks",
            report.card
        ))?;
    }
    Ok(())
}

fn line(step: usize, check: &Check) -> Result<()> {
    let failed = |error| Error::new("selftest", error);
    let mut line = serde_json::to_value(check).map_err(failed)?;
    line["step"] = step.into();
    super::print_line(&line.to_string())
}

/// Of an error about cards, the remedies that help here.
fn needs_a_card(error: Error) -> Error {
    const CPU: &str = "use --device cpu";
    error.within("selftest needs a card").map_remedy(|remedy| {
        let remedy = remedy.replace(&format!(", or {CPU}"), "");
        remedy.replace(CPU, "try another card, as `massact devices` lists them")
    })
}

/// All in the type, and with a residual stream in float32.
fn precisions(dtype: DType) -> impl Iterator<Item = Precision> {
    let mixed = Precision::new(dtype, DType::Float32).ok();
    let mixed = mixed.filter(|_| dtype != DType::Float32);
    std::iter::once(dtype.into()).chain(mixed)
}

fn table(checks: &[Check]) -> Table {
    let mut table = Table::new([
        ("check", Align::Left),
        ("dtype", Align::Left),
        ("error", Align::Right),
        ("allowed", Align::Right),
        ("", Align::Left),
    ]);
    for check in checks {
        let verdict = match (&check.failure, check.passed) {
            (Some(failure), _) => failure.clone(),
            (None, true) => String::new(),
            (None, false) => match &check.first_wrong {
                Some(wrong) => format!("FAILED: {wrong}"),
                None => "FAILED".to_owned(),
            },
        };
        let cells = [
            check.name.clone(),
            check.dtype.clone(),
            significant(check.error),
            significant(check.allowed),
            verdict,
        ];
        table.push(Row::new(cells).emphasised(!check.passed));
    }
    table
}
