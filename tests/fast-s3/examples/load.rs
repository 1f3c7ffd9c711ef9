//! How fast the server is with a client that does nothing else: `load ENDPOINT BUCKET`.
//!
//! A measurement with a server says something about the client only if the server is well ahead of it. The client here does not
//! look at what it gets: blocking connections, one thread each, requests that were made before.

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

const SMALL: usize = 64 << 10;
const SMALL_REQUESTS: usize = 20_000;
const RANGE: usize = 8 << 20;
const LARGE: usize = 1 << 30;
const MIB: f64 = 1_048_576.0;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: load ENDPOINT BUCKET";
    let endpoint = arguments.next().context(usage)?;
    let bucket = arguments.next().context(usage)?;
    let load = Load {
        address: endpoint.trim_start_matches("http://").to_owned(),
        bucket,
    };
    for connections in [1, 4, 16] {
        let put = |number| (format!("PUT /{}/small/{number}", load.bucket), SMALL);
        load.run("PUT of 64 KiB", connections, SMALL_REQUESTS, put)?;
        let get = |number| (format!("GET /{}/small/{number}", load.bucket), 0);
        load.run("GET of 64 KiB", connections, SMALL_REQUESTS, get)?;
        let head = |number| (format!("HEAD /{}/small/{number}", load.bucket), 0);
        load.run("HEAD", connections, SMALL_REQUESTS, head)?;
    }
    load.parts()
}

struct Load {
    address: String,
    bucket: String,
}

impl Load {
    /// `request` gives the request line, with headers behind it if there are any, and the length of the body.
    fn run(
        &self,
        what: &str,
        connections: usize,
        requests: usize,
        request: impl Fn(usize) -> (String, usize) + Sync,
    ) -> Result<()> {
        let (next, body) = (AtomicUsize::new(0), vec![7; RANGE]);
        let start = Instant::now();
        let bytes = thread::scope(|scope| {
            let work = || -> Result<usize> {
                let mut client = Client::connect(&self.address)?;
                let mut bytes = 0;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return Ok(bytes);
                    }
                    let (head, length) = request(number);
                    bytes += length + client.ask(&head, &body[..length])?.len();
                }
            };
            let threads: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
            let ended = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            ended.sum::<Result<usize>>()
        })?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{what}, {connections} connections: {:.0} requests/s, {:.0} MiB/s",
            requests as f64 / seconds,
            bytes as f64 / MIB / seconds
        );
        Ok(())
    }

    /// An object of 1 GiB in parts, and ranges of it.
    fn parts(&self) -> Result<()> {
        let mut client = Client::connect(&self.address)?;
        for connections in [1, 4, 8] {
            let created = client.ask(&format!("POST /{}/large?uploads", self.bucket), &[])?;
            let created = String::from_utf8_lossy(created);
            let id = created.split("UploadId>").nth(1).context("no upload")?;
            let id = id.trim_end_matches("</").to_owned();
            let part = |number| {
                let number = number + 1;
                (
                    format!(
                        "PUT /{}/large?partNumber={number}&uploadId={id}",
                        self.bucket
                    ),
                    RANGE,
                )
            };
            self.run("PUT of parts of 8 MiB", connections, LARGE / RANGE, part)?;
            let numbers = (1..=LARGE / RANGE)
                .map(|number| format!("<PartNumber>{number}</PartNumber>"))
                .collect::<Vec<_>>()
                .concat();
            let start = Instant::now();
            client.ask(
                &format!("POST /{}/large?uploadId={id}", self.bucket),
                numbers.as_bytes(),
            )?;
            println!("end of the upload: {:.4} s", start.elapsed().as_secs_f64());
            let range = |number| {
                let (start, end) = (number * RANGE, (number + 1) * RANGE - 1);
                (format!("GET /{}/large?range={start}-{end}", self.bucket), 0)
            };
            self.run("GET of ranges of 8 MiB", connections, LARGE / RANGE, range)?;
        }
        Ok(())
    }
}

struct Client {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Client {
    fn connect(address: &str) -> Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::with_capacity(SMALL, stream),
            body: Vec::new(),
        })
    }

    /// Gives the body of the answer, which has to be a good one. `range=` in the line is a header.
    fn ask(&mut self, line: &str, body: &[u8]) -> Result<&[u8]> {
        let (target, range) = match line.split_once("?range=") {
            Some((target, range)) => (target, format!("Range: bytes={range}\r\n")),
            None => (line, String::new()),
        };
        let length = body.len();
        let head =
            format!("{target} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{range}\r\n");
        let to = self.stream.get_mut();
        to.write_all(head.as_bytes())?;
        to.write_all(body)?;
        let mut text = String::new();
        while !text.ends_with("\r\n\r\n") {
            ensure!(self.stream.read_line(&mut text)? > 0, "the server is gone");
        }
        ensure!(text.starts_with("HTTP/1.1 20"), "{line}: {text}");
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let length = match length {
            Some(length) if !line.starts_with("HEAD") => length.parse()?,
            _ => 0,
        };
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        Ok(&self.body)
    }
}
