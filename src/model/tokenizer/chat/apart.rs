//! Templates run in a process of their own.
//!
//! A template is a program that somebody else wrote. The library that runs it counts steps, but a value that holds
//! itself is printed without end, and a filter may ask for all memory: both end the process they are in, whatever it
//! does otherwise. So the program starts itself once more, with limits on memory and time, and waits for what it says.
//! Where massact is used as a library there is no such program, and templates run on a thread.
#![forbid(unsafe_code)]

use std::{
    io::{self, Read, Write},
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use super::render::{Turn, render};
use crate::{allocator, error::Result, interrupt, panics};

/// The program's only argument where it is to render a template.
pub const ARGUMENT: &str = "render-chat-template";

/// What a template makes, or why nothing.
type Answer = std::result::Result<String, String>;

/// What the library's recursion needs for each byte of a template, almost thrice over, and beside it for values that
/// a template nests while it runs: a chain of operators is as deep as it is long.
const STACK: usize = 1 << 10;
const STACK_BESIDE: usize = 64 << 20;
/// Bytes and seconds of the processor that the process gets.
const MEMORY: u64 = 1 << 30;
const SECONDS: u64 = 3;
/// Where others keep the processor busy, or a system knows no limits.
const PATIENCE: Duration = Duration::from_secs(20);
/// Without a process.
const PATIENCE_WITH_A_THREAD: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(50);
/// Bytes of an answer: more than the steps of a template can write.
const LONGEST: u64 = 64 << 20;

const TOO_LONG: &str = "it takes too long";
const NOT_FOLLOWED: &str = "it cannot be followed";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// From here on templates run in processes of this program, which calls [`serve`] where it has the one argument
/// [`ARGUMENT`].
pub fn use_own_program() {
    // Stays the same program when the file is replaced.
    let own = PathBuf::from("/proc/self/exe");
    let found = match own.exists() {
        true => Ok(own),
        false => std::env::current_exe(),
    };
    if let Ok(path) = found {
        PROGRAM.get_or_init(|| path);
    }
}

/// Renders what standard input brings, and ends.
pub fn serve() -> ExitCode {
    allocator::limit(MEMORY, SECONDS);
    let done = serde_json::from_reader(io::stdin().lock())
        .map_err(io::Error::from)
        .and_then(|turn: Turn| {
            let answer = on_a_thread(turn)?;
            let answer: Answer = answer
                .recv()
                .unwrap_or_else(|_| Err(NOT_FOLLOWED.to_owned()));
            let mut out = io::stdout().lock();
            serde_json::to_writer(&mut out, &answer)?;
            out.flush()
        });
    ExitCode::from(u8::from(done.is_err()))
}

/// Renders it. The outer error is the user's wish to stop.
pub(super) fn rendered(turn: Turn) -> Result<Answer> {
    let Some(program) = PROGRAM.get() else {
        return Ok(match on_a_thread(turn) {
            Ok(answer) => match answer.recv_timeout(PATIENCE_WITH_A_THREAD) {
                Ok(answer) => answer,
                // The thread ends with the program.
                Err(RecvTimeoutError::Timeout) => Err(TOO_LONG.to_owned()),
                Err(RecvTimeoutError::Disconnected) => Err(NOT_FOLLOWED.to_owned()),
            },
            Err(error) => Err(error.to_string()),
        });
    };
    let mut command = Command::new(program);
    // A terminal's Ctrl-C is for this process, which ends the other.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command
        .arg(ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(child) => in_a_process(child, &turn),
        Err(error) => Ok(Err(format!("no process for it: {error}"))),
    }
}

fn on_a_thread(turn: Turn) -> io::Result<Receiver<Answer>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .stack_size(STACK_BESIDE + STACK * turn.source.len())
        .spawn(move || {
            // Where it panics nothing is sent.
            panics::caught(|| render(&turn)).map(|answer| sender.send(answer))
        })?;
    Ok(receiver)
}

fn in_a_process(mut child: Child, turn: &Turn) -> Result<Answer> {
    let (question, answer) = (child.stdin.take(), child.stdout.take());
    let (sender, receiver) = mpsc::channel();
    let talk = move |request: Vec<u8>| {
        // Whatever fails, nothing comes of it; why the process says by how it ends.
        if let Some(mut question) = question {
            let _ = question.write_all(&request);
        }
        let mut said = Vec::new();
        if let Some(answer) = answer {
            let _ = answer.take(LONGEST).read_to_end(&mut said);
        }
        let _ = sender.send(said);
    };
    let request = serde_json::to_vec(turn).unwrap_or_default();
    let talks = thread::Builder::new().spawn(move || talk(request));
    let began = Instant::now();
    let said = loop {
        if talks.is_err() {
            break Ok(None);
        }
        if let Err(stop) = interrupt::check() {
            break Err(stop);
        }
        match receiver.recv_timeout(TICK) {
            Ok(said) => break Ok(Some(said)),
            Err(RecvTimeoutError::Timeout) if began.elapsed() < PATIENCE => {}
            Err(_) => break Ok(None),
        }
    };
    if !matches!(said, Ok(Some(_))) {
        // It may have ended by itself.
        let _ = child.kill();
    }
    let ended = child.wait();
    let Some(said) = said? else {
        return Ok(Err(TOO_LONG.to_owned()));
    };
    Ok(serde_json::from_slice(&said).unwrap_or_else(|_| Err(why(ended.ok()))))
}

/// Why a process said nothing.
fn why(ended: Option<ExitStatus>) -> String {
    #[cfg(unix)]
    if let Some(signal) =
        ended.and_then(|status| std::os::unix::process::ExitStatusExt::signal(&status))
    {
        return match signal {
            libc::SIGXCPU | libc::SIGKILL => TOO_LONG.to_owned(),
            _ => "it goes on without end, as a value that holds itself does".to_owned(),
        };
    }
    match ended.and_then(|status| status.code()) {
        Some(_) => "it asks for too much memory".to_owned(),
        None => NOT_FOLLOWED.to_owned(),
    }
}
