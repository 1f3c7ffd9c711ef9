//! An answer before it is written, and the forms that S3's have.

use std::borrow::Cow;
use std::fs::File;

use jiff::Timestamp;

use crate::xml::{document, escaped};

/// An answer before it is written.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) body: Body,
}

#[derive(Debug)]
pub(crate) enum Body {
    Text(String),
    File {
        file: File,
        start: u64,
        length: u64,
        /// The offset in the file of a byte whose bits are turned over.
        wrong: Option<u64>,
    },
}

impl Body {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

impl Answer {
    pub(crate) fn empty(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Body::Text(String::new()),
        }
    }

    pub(crate) fn xml(name: &str, inside: &str) -> Self {
        Self {
            body: Body::Text(document(name, inside)),
            ..Self::empty(200)
        }
        .with("Content-Type", "application/xml")
    }

    pub(crate) fn error(status: u16, code: &str, message: &str) -> Self {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <Error><Code>{code}</Code><Message>{}</Message></Error>",
            escaped(message)
        );
        Self {
            body: Body::Text(text),
            ..Self::empty(status)
        }
        .with("Content-Type", "application/xml")
    }

    pub(crate) fn with(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn with_etag(self, etag: &str) -> Self {
        self.with("ETag", format!("\"{etag}\""))
    }
}

/// `Wed, 21 Oct 2015 07:28:00 GMT`
pub(crate) fn http_time(seconds: i64) -> String {
    time(seconds, "%a, %d %b %Y %H:%M:%S GMT")
}

/// `2015-10-21T07:28:00.000Z`
pub(crate) fn xml_time(seconds: i64) -> String {
    time(seconds, "%Y-%m-%dT%H:%M:%S.000Z")
}

/// A time that no calendar has becomes the first one.
fn time(seconds: i64, format: &str) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH);
    time.strftime(format).to_string()
}
