//! A server that writes down what it is asked and answers as a test says: for what real servers in the world do, and those that can be
//! run here do not.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// What it answers.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<String>,
    body: String,
    is_dropped: bool,
}

impl Answer {
    pub(super) fn of(status: u16, body: &str) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.to_owned(),
            is_dropped: false,
        }
    }

    /// The connection is closed without a word.
    pub(super) fn dropped() -> Self {
        Self {
            is_dropped: true,
            ..Self::of(0, "")
        }
    }

    /// An error as S3 says it.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        Self::of(status, &body).with("content-type: application/xml")
    }

    pub(super) fn with(mut self, header: &str) -> Self {
        self.headers.push(header.to_owned());
        self
    }

    /// As a store in which nothing is, and into which everything can be put.
    pub(super) fn of_empty_store(head: &str) -> Self {
        let (method, target) = head.split_once(' ').unwrap();
        match method {
            "PUT" => Self::of(200, "").with("etag: \"0\""),
            "GET" if target.contains("list-type=2") => Self::of(
                200,
                "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
            )
            .with("content-type: application/xml"),
            _ => Self::error(404, "NoSuchKey"),
        }
    }
}

/// What a server has heard, and what it is to refuse.
#[derive(Default)]
struct State {
    heads: Vec<String>,
    once: Option<(String, Answer)>,
}

/// The server. It ends with the test's program.
pub(super) struct Recorder {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Recorder {
    /// Starts a server. The answer may depend on how many requests there were before, and on the request's head.
    pub(super) fn start(answer: impl Fn(usize, &str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<State>>::default();
        let (shared, answer) = (Arc::clone(&state), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                // A connection that breaks is the client's matter.
                std::thread::spawn(move || serve(stream, &shared, &*answer));
            }
        });
        Self { endpoint, state }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The heads of the requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.heads.clone()
    }

    /// The next request with this header is answered so.
    pub(super) fn refuse_once(&self, header: &str, answer: Answer) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.once = Some((header.to_owned(), answer));
    }
}

fn serve(
    stream: TcpStream,
    state: &Mutex<State>,
    answer: &(impl Fn(usize, &str) -> Answer + ?Sized),
) -> std::io::Result<()> {
    let mut to = stream.try_clone()?;
    let mut from = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if from.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let small = head.to_lowercase();
        let len = small.split("\ncontent-length: ").nth(1);
        let len: u64 = len
            .and_then(|rest| rest.split('\r').next()?.parse().ok())
            .unwrap_or(0);
        std::io::copy(&mut from.by_ref().take(len), &mut std::io::sink())?;
        let answer = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let count = state.heads.len();
            state.heads.push(head.clone());
            let is_it = |(header, _): &mut (String, Answer)| small.contains(&format!("\n{header}"));
            match state.once.take_if(is_it) {
                Some((_, answer)) => answer,
                None => answer(count, &head),
            }
        };
        if answer.is_dropped {
            return Ok(());
        }
        let mut text = format!("HTTP/1.1 {} X\r\n", answer.status);
        for header in &answer.headers {
            text += &format!("{header}\r\n");
        }
        text += &format!("content-length: {}\r\n\r\n", answer.body.len());
        if !head.starts_with("HEAD ") {
            text += &answer.body;
        }
        to.write_all(text.as_bytes())?;
    }
}
