//! Slurm's commands.
#![forbid(unsafe_code)]

use std::{
    io::{ErrorKind, Read},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    interrupt,
};

/// How long one may take: a controller that is away is asked again and again.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// What Slurm allows where it does not say.
const MAX_ARRAY_SIZE: usize = 1001;

/// Submits a script. Returns the job's id.
pub fn sbatch(options: &[String], script: &Path, argument: Option<usize>) -> Result<String> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable").args(options).arg(script);
    command.args(argument.map(|argument| argument.to_string()));
    let output = output(&mut command)?;
    // `12`, or `12;cluster`.
    let id = output.trim().split(';').next().unwrap_or_default();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::new(
            "sbatch",
            format!("its answer is no job's id: {output}"),
        ));
    }
    Ok(id.to_owned())
}

/// How many elements an array may have here.
pub fn max_array_size() -> usize {
    let config = output(Command::new("scontrol").args(["show", "config"]));
    let size = config.ok().as_deref().and_then(array_size);
    size.filter(|size| *size > 0).unwrap_or(MAX_ARRAY_SIZE)
}

/// `MaxArraySize            = 1001`
fn array_size(config: &str) -> Option<usize> {
    let mut lines = config.lines();
    lines.find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "MaxArraySize").then_some(())?;
        value.trim().parse().ok()
    })
}

/// What a command writes to stdout; an error with what it writes to stderr.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let fail = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Error::new(&name, "there is no such command on the PATH"),
        _ => Error::new(&name, error),
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    // Pipes that nobody reads would fill, and it would wait for ever.
    let stdout = child.stdout.take().map(reader);
    let stderr = child.stderr.take().map(reader);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(fail)? {
            break status;
        }
        if start.elapsed() > PATIENCE || interrupt::requested() {
            // It may have ended in this moment.
            let _ = child.kill();
            let _ = child.wait();
            interrupt::check()?;
            return Err(Error::new(
                name,
                format!("no answer within {} s", PATIENCE.as_secs()),
            ));
        }
        thread::sleep(PERIOD);
    };
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    if status.success() {
        return Ok(stdout);
    }
    // They begin with their own name, which the error has already.
    let said = stderr.trim();
    let said = said.strip_prefix(&format!("{name}: ")).unwrap_or(said);
    let said = said.strip_prefix("error: ").unwrap_or(said);
    Err(if said.is_empty() {
        Error::new(name, status)
    } else {
        Error::new(name, said)
    })
}

fn reader(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error serves, too.
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_arrays_is_in_the_configuration() {
        let config = "Configuration data as of 2026-01-01\nMailProg = /bin/mail\n\
                      MaxArraySize            = 20001\nMaxDBDMsgs = 20024\n";
        assert_eq!(array_size(config), Some(20001));
        assert_eq!(array_size("MaxDBDMsgs = 20024"), None);
    }

    #[test]
    #[cfg(unix)]
    fn what_a_command_says_when_it_fails() {
        let sh = |script: &str| output(Command::new("sh").args(["-c", script]));
        assert_eq!(sh("echo 12; echo no >&2").as_deref(), Ok("12\n"));
        let error = sh("echo 'sh: error: not\n today' >&2; exit 1").expect_err("failed");
        assert_eq!(error.to_string(), "sh: not today");
        let error = output(&mut Command::new("no-such-command-of-slurm"));
        assert!(error.expect_err("missing").to_string().contains("PATH"));
    }
}
