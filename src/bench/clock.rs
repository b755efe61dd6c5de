//! How long a call takes on a device that works on its own.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::{backend::Backend, error::Result, interrupt};

/// Calls of one repetition, at most.
const MOST_CALLS: usize = 1000;

/// How thoroughly to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Repetitions, of which the best and the median are told.
    pub repetitions: usize,
    /// A repetition makes as many calls as take this long, but at least one.
    pub least: Duration,
}

/// Time of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) calls: usize,
    pub(super) best: Duration,
    pub(super) median: Duration,
}

/// A call to be timed.
pub(super) type Call<'c> = dyn FnMut() -> Result<()> + 'c;

/// Times calls in turns, so that a slow moment of the machine hits all of them alike.
pub(super) fn time<B: Backend, const N: usize>(
    backend: &B,
    effort: Effort,
    mut calls: [&mut Call<'_>; N],
) -> Result<[Times; N]> {
    let found = time_all(backend, effort, &mut calls)?;
    Ok(std::array::from_fn(|index| found[index]))
}

/// The same, of any number of calls.
pub(super) fn time_all<B: Backend>(
    backend: &B,
    effort: Effort,
    calls: &mut [&mut Call<'_>],
) -> Result<Vec<Times>> {
    let mut counts = Vec::new();
    for call in calls.iter_mut() {
        counts.push(enough(backend, effort.least, *call)?);
    }
    let mut found = vec![Vec::new(); calls.len()];
    for _ in 0..effort.repetitions.max(1) {
        for ((call, count), found) in calls.iter_mut().zip(&counts).zip(&mut found) {
            found.push(repeat(backend, *count, *call)? / *count as u32);
        }
    }
    let times = found.into_iter().zip(counts);
    Ok(times
        .map(|(mut times, calls): (Vec<Duration>, usize)| {
            times.sort_unstable();
            Times {
                calls,
                best: times[0],
                // The lower middle, as everywhere.
                median: times[(times.len() - 1) / 2],
            }
        })
        .collect())
}

/// How many calls take `least`. Finding it warms up.
fn enough<B: Backend>(backend: &B, least: Duration, call: &mut Call<'_>) -> Result<usize> {
    let mut count = 1;
    loop {
        let taken = repeat(backend, count, call)?;
        if taken >= least || count == MOST_CALLS {
            return Ok(count);
        }
        let missing = least.as_secs_f64() / taken.as_secs_f64().max(1e-9);
        // The first calls are slower than the later ones.
        let wanted = count as f64 * missing.clamp(1.5, 100.0);
        count = (wanted.ceil() as usize).min(MOST_CALLS);
    }
}

fn repeat<B: Backend>(backend: &B, count: usize, call: &mut Call<'_>) -> Result<Duration> {
    interrupt::check()?;
    backend.synchronise()?;
    let started = Instant::now();
    for _ in 0..count {
        call()?;
    }
    backend.synchronise()?;
    Ok(started.elapsed())
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;
    use crate::backend::cpu::Cpu;

    #[test]
    fn a_call_has_its_own_time_however_many_there_are() {
        let effort = Effort {
            repetitions: 3,
            least: Duration::from_millis(20),
        };
        let (mut made, mut long) = (0, Duration::from_millis(1));
        let [short, once] = time(
            &Cpu::new(),
            effort,
            [
                &mut || {
                    made += 1;
                    sleep(Duration::from_millis(1));
                    Ok(())
                },
                &mut || {
                    // Only the fastest repetition counts as the best.
                    long += Duration::from_millis(30);
                    sleep(long);
                    Ok(())
                },
            ],
        )
        .expect("measures");
        assert!((2..=20).contains(&short.calls), "{short:?}");
        assert!(made >= 4 * short.calls, "{made} {short:?}");
        assert!(short.best >= Duration::from_millis(1), "{short:?}");
        assert!(short.best < Duration::from_millis(10), "{short:?}");
        assert_eq!(once.calls, 1);
        assert!(once.best >= Duration::from_millis(61), "{once:?}");
        assert!(
            once.median >= once.best + Duration::from_millis(20),
            "{once:?}"
        );
    }

    #[test]
    fn failures_end_it() {
        let effort = Effort {
            repetitions: 1,
            least: Duration::ZERO,
        };
        let failing = &mut || Err(crate::Error::new("call", "fails"));
        assert!(time(&Cpu::new(), effort, [failing]).is_err());
    }
}
