//! `openjd-snapshots` behind a line protocol: one JSON request a line, one JSON answer a line.
//!
//! `tests/peers/README.md` has the protocol and every operation. This program only translates: what an answer says was computed by
//! the crate. Whatever goes wrong inside an operation, a panic too, is its answer; the program ends with its input. Requests
//! may also be its arguments: then each is answered in turn, and the exit code says whether all of them succeeded.

mod any;
mod operations;
mod request;
mod timing;
mod transfer;

use std::io::{self, BufRead as _, Write as _};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use serde_json::{Value, json};

use request::{Fault, Request};

fn main() -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut all_succeeded = true;
    let mut reply = |line: &[u8]| {
        let answer = answer(line);
        all_succeeded &= answer.get("ok").is_some();
        writeln!(out, "{answer}")?;
        out.flush()
    };
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        for line in io::stdin().lock().split(b'\n') {
            reply(&line?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    for argument in arguments {
        reply(argument.as_bytes())?;
    }
    Ok(ExitCode::from(u8::from(!all_succeeded)))
}

fn answer(line: &[u8]) -> Value {
    let done = panic::catch_unwind(AssertUnwindSafe(|| {
        operations::perform(&Request::parse(line)?)
    }));
    let fault = match done {
        Ok(Ok(result)) => return json!({ "ok": result }),
        Ok(Err(fault)) => fault,
        Err(panic) => Fault::panicked(&*panic),
    };
    json!({ "error": { "type": fault.kind, "text": fault.text } })
}
