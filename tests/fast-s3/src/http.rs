//! HTTP/1.1 as S3's clients speak it: heads of requests, bodies in their framings, heads of answers.
//!
//! A body may be wrapped twice: `Transfer-Encoding: chunked` around `aws-chunked`, which has the same form with a signature behind
//! each length and checksums behind the end. Both are taken off by [`Chunked`]; neither signatures nor checksums are looked at.

use std::io::{self, BufRead, Read as _};

use crate::target::Target;

/// The longest head of a request, in bytes.
const LONGEST_HEAD: usize = 64 << 10;
/// The longest line around a chunk, in bytes.
const LONGEST_LINE: u64 = 4 << 10;
const MOST_HEADERS: usize = 100;

/// The head of a request.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: Target,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Nothing when the client has closed the connection between two requests. `text` is only there to be used again.
    pub(crate) fn read(from: &mut impl BufRead, text: &mut Vec<u8>) -> io::Result<Option<Self>> {
        text.clear();
        loop {
            let before = text.len();
            let room = (LONGEST_HEAD - before) as u64;
            let read = from.by_ref().take(room).read_until(b'\n', text)?;
            let line = &text[before..];
            if read == 0 && before == 0 {
                return Ok(None);
            }
            if !line.ends_with(b"\n") {
                return Err(malformed("a head without an end"));
            }
            if line == b"\r\n" || line == b"\n" {
                // A line that is empty before a request is left out.
                if before == 0 {
                    text.clear();
                    continue;
                }
                return Self::parse(text).map(Some);
            }
        }
    }

    fn parse(text: &[u8]) -> io::Result<Self> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        request.parse(text).map_err(malformed)?;
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Err(malformed("a request without a target"));
        };
        let headers = request.headers.iter().map(|header| {
            let value = String::from_utf8_lossy(header.value);
            (header.name.to_owned(), value.into_owned())
        });
        Ok(Self {
            method: method.to_owned(),
            target: Target::parse(target),
            headers: headers.collect(),
        })
    }

    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.headers.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }

    fn says(&self, name: &str, word: &str) -> bool {
        self.header(name)
            .is_some_and(|value| value.to_ascii_lowercase().contains(word))
    }

    /// Whether the client waits for a word before it sends the body.
    pub(crate) fn expects_continue(&self) -> bool {
        self.says("expect", "100-continue")
    }

    /// Whether the client wants no other request after this one.
    pub(crate) fn closes(&self) -> bool {
        self.says("connection", "close")
    }

    fn is_aws_chunked(&self) -> bool {
        self.says("content-encoding", "aws-chunked")
            || self.says("x-amz-content-sha256", "streaming-")
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.trim().parse().ok()
    }

    /// Bytes of the body without what is wrapped around it, if the head says it.
    pub(crate) fn length(&self) -> Option<u64> {
        if self.is_aws_chunked() {
            return self.number("x-amz-decoded-content-length");
        }
        if self.says("transfer-encoding", "chunked") {
            return None;
        }
        Some(self.number("content-length").unwrap_or(0))
    }

    /// The body, with all that is wrapped around it taken off. It has to be read to its end.
    pub(crate) fn body<'a>(&self, from: &'a mut impl BufRead) -> Box<dyn BufRead + 'a> {
        let outer: Box<dyn BufRead + 'a> = if self.says("transfer-encoding", "chunked") {
            Box::new(Chunked::new(from, Behind::NextRequest))
        } else {
            Box::new(from.take(self.number("content-length").unwrap_or(0)))
        };
        if self.is_aws_chunked() {
            Box::new(Chunked::new(outer, Behind::Nothing))
        } else {
            outer
        }
    }
}

/// The bytes of a body in chunks: each a length in hexadecimal digits, an end of line, so many bytes, an end of line. The last one
/// has the length 0, and lines behind it up to an empty one.
struct Chunked<R> {
    from: R,
    /// Of the chunk that is being read.
    left: u64,
    state: Reading,
    behind: Behind,
}

/// What may follow the last chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    NextRequest,
    /// The end of what is wrapped around these chunks, which has to be read too.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    First,
    Chunk,
    Ended,
}

impl<R: BufRead> Chunked<R> {
    fn new(from: R, behind: Behind) -> Self {
        Self {
            from,
            left: 0,
            state: Reading::First,
            behind,
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.from.by_ref().take(LONGEST_LINE).read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(malformed("a chunk without its length"));
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        if self.state == Reading::Chunk && !self.line()?.is_empty() {
            return Err(malformed("a chunk that is longer than its length"));
        }
        let line = self.line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(digits, 16).map_err(malformed)?;
        self.state = Reading::Chunk;
        if self.left == 0 {
            while !self.line()?.is_empty() {}
            self.state = Reading::Ended;
            if self.behind == Behind::Nothing {
                io::copy(&mut self.from, &mut io::sink())?;
            }
        }
        Ok(())
    }
}

impl<R: BufRead> io::Read for Chunked<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let length = ready.len().min(to.len());
        to[..length].copy_from_slice(&ready[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<R: BufRead> BufRead for Chunked<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 && self.state != Reading::Ended {
            self.next_chunk()?;
        }
        if self.state == Reading::Ended {
            return Ok(&[]);
        }
        let ready = self.from.fill_buf()?;
        if ready.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = (ready.len() as u64).min(self.left) as usize;
        Ok(&ready[..length])
    }

    fn consume(&mut self, amount: usize) {
        self.from.consume(amount);
        self.left -= amount as u64;
    }
}

fn malformed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The words that belong to a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        501 => "Not Implemented",
        _ => "Internal Server Error",
    }
}
