//! One connection: requests one after the other, each answered before the next is read.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;

use rustix::net::{SendFlags, send};

use crate::Shared;
use crate::answer::{Answer, Body};
use crate::counters::Counters;
use crate::faults::{Fault, Setting, TRICKLE};
use crate::http::{Head, reason};
use crate::service;

/// A part of a body that is handed on at once; of several sizes the fastest.
const BUFFER: usize = 256 << 10;
/// What the kernel is asked to send at once.
const SENT_AT_ONCE: usize = 4 << 20;

/// Answers until the client closes the connection.
pub(crate) fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::with_capacity(BUFFER, stream);
    let mut text = Vec::new();
    while let Some(head) = Head::read(&mut from, &mut text)? {
        if head.target.bucket == "-" {
            let answer = service::control(shared, &head);
            send_answer(from.get_ref(), shared, &head, answer, None)?;
            if head.closes() {
                break;
            }
            continue;
        }
        let in_flight = shared.counting.begin(service::counter(&head));
        let mut upload = Upload {
            shared,
            head: &head,
            from: &mut from,
            state: State::Waiting,
        };
        let (fault, setting) = shared.faults.of(&head);
        if fault == Some(Fault::CutOff) {
            upload.receive_half()?;
            return Err(broken());
        }
        let refusal = fault.and_then(|fault| fault.answer(&head));
        let mut answer = refusal.unwrap_or_else(|| service::answer(shared, &head, &mut upload));
        let may_go_on = upload.finish()?;
        if answer.status == 404 {
            shared.counting.record(|counters| counters.not_found += 1);
        }
        // Not under the lock: others wait at the same time.
        let pace = *shared.pace.lock();
        pace.wait();
        match fault {
            Some(Fault::Close) => return Err(broken()),
            Some(Fault::DoneAndRefused(status, code)) if answer.status < 300 => {
                answer = Answer::error(status, code, &head.target.key);
            }
            Some(Fault::Silence) => {
                shared.faults.last(setting, None);
                return Err(broken());
            }
            _ => {}
        }
        let fault = fault.map(|fault| (fault, setting));
        send_answer(from.get_ref(), shared, &head, answer, fault)?;
        drop(in_flight);
        if head.closes() || !may_go_on {
            break;
        }
    }
    Ok(())
}

/// The body of a request, which is read when it is asked for.
pub(crate) struct Upload<'a> {
    shared: &'a Shared,
    head: &'a Head,
    from: &'a mut BufReader<TcpStream>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// Something went wrong while it was read: where the next request begins is not known.
    Reading,
    Read,
}

impl Upload<'_> {
    /// Gives each piece of the body to `take`; says how many bytes there were.
    pub(crate) fn receive(
        &mut self,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<u64> {
        self.state = State::Reading;
        if self.head.expects_continue() {
            self.from
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut paced = self.shared.pace.lock().body();
        let mut body = self.head.body(self.from);
        let mut received = 0;
        loop {
            let ready = body.fill_buf()?;
            let length = paced.piece(ready.len());
            if length == 0 {
                break;
            }
            take(&ready[..length])?;
            body.consume(length);
            received += length as u64;
            paced.pass(length);
        }
        if self.head.length().is_some_and(|length| length != received) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.state = State::Read;
        Ok(received)
    }

    /// Reads half of the body, and throws it away.
    fn receive_half(&mut self) -> io::Result<()> {
        let half = self.head.length().unwrap_or_default() / 2;
        let mut received = 0;
        // A body that is not longer than a piece comes whole, and is not kept either.
        self.receive(|piece| {
            received += piece.len() as u64;
            if received < half {
                return Ok(());
            }
            Err(broken())
        })
        .map(drop)
    }

    /// Reads what nobody asked for. Says whether another request may follow.
    fn finish(mut self) -> io::Result<bool> {
        if self.state == State::Waiting {
            // Who waits for a word sends nothing after a final answer.
            if self.head.expects_continue() {
                return Ok(self.head.length() == Some(0));
            }
            self.receive(|_| Ok(()))?;
        }
        Ok(self.state == State::Read)
    }
}

/// Ends the connection.
fn broken() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

fn send_answer(
    to: &TcpStream,
    shared: &Shared,
    head: &Head,
    answer: Answer,
    fault: Option<(Fault, Setting)>,
) -> io::Result<()> {
    let mut text = format!(
        "HTTP/1.1 {} {}\r\nServer: attachfs-fast-s3\r\nx-amz-request-id: 0000000000000000\r\n",
        answer.status,
        reason(answer.status)
    );
    for (name, value) in &answer.headers {
        for part in [name.as_ref(), ": ", value.as_str(), "\r\n"] {
            text.push_str(part);
        }
    }
    let length = answer.body.length();
    if answer.status != 204 && answer.status != 304 {
        text.push_str(&format!("Content-Length: {length}\r\n"));
    }
    text.push_str("\r\n");
    match answer.body {
        _ if head.method == "HEAD" => send_all(to, text.as_bytes(), SendFlags::empty()),
        Body::Text(body) => {
            text.push_str(&body);
            send_all(to, text.as_bytes(), SendFlags::empty())
        }
        Body::File {
            file,
            start,
            length,
            wrong,
        } => {
            if length == 0 {
                return send_all(to, text.as_bytes(), SendFlags::empty());
            }
            // Together with the first bytes of the file.
            send_all(to, text.as_bytes(), SendFlags::MORE)?;
            let end = start + length;
            let middle = start + length / 2;
            match fault {
                Some((Fault::Cut | Fault::Stall, _)) if length > 1 => {
                    send_file(to, shared, &file, start, middle)?;
                }
                Some((Fault::Trickle, setting)) => {
                    let mut at = start;
                    while at < end && shared.faults.last(setting, Some(TRICKLE.0)) {
                        let next = end.min(at + TRICKLE.1 as u64);
                        send_file(to, shared, &file, at, next)?;
                        at = next;
                    }
                    return if at == end { Ok(()) } else { Err(broken()) };
                }
                _ => return send_all_of(to, shared, head, &file, (start, end), wrong),
            }
            if let Some((Fault::Stall, setting)) = fault {
                shared.faults.last(setting, None);
            }
            Err(broken())
        }
    }
}

fn send_all(to: &TcpStream, mut bytes: &[u8], flags: SendFlags) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = send(to, bytes, flags | SendFlags::NOSIGNAL)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Sends the bytes between two offsets, of which one may be wrong.
fn send_all_of(
    to: &TcpStream,
    shared: &Shared,
    head: &Head,
    file: &File,
    (start, end): (u64, u64),
    wrong: Option<u64>,
) -> io::Result<()> {
    let Some(at) = wrong else {
        return send_file(to, shared, file, start, end);
    };
    send_file(to, shared, file, start, at)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    shared.faults.falsify(&head.target.key, at);
    send_all(to, &[!byte[0]], SendFlags::empty())?;
    send_file(to, shared, file, at + 1, end)
}

/// Sends the bytes between two offsets.
fn send_file(to: &TcpStream, shared: &Shared, file: &File, start: u64, end: u64) -> io::Result<()> {
    let mut paced = shared.pace.lock().body();
    let mut at = start;
    let count = |bytes: u64| {
        shared
            .counting
            .record(|counters: &mut Counters| counters.sent += bytes);
    };
    while at < end {
        let piece = paced.piece(SENT_AT_ONCE.min((end - at) as usize));
        paced.pass(piece);
        let sent = rustix::fs::sendfile(to, file, Some(&mut at), piece)?;
        if sent == 0 {
            // The file became shorter: the client has to see that the answer is not whole.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        count(sent as u64);
    }
    Ok(())
}
