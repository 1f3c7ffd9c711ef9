//! What can happen to a request between a client and a server, as rules.

use crate::Request;

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mishap {
    /// The server answers with an error and does nothing.
    Error {
        /// The HTTP status.
        status: u16,
        /// S3's name of the error.
        code: &'static str,
    },
    /// The server does what it was asked and answers with an error.
    ErrorAfter {
        /// The HTTP status.
        status: u16,
        /// S3's name of the error.
        code: &'static str,
    },
    /// The connection breaks after this many bytes of the answer's body.
    Break {
        /// Bytes that still arrive.
        after: usize,
    },
    /// The body stops after this many bytes, and the connection stays open.
    Stall {
        /// Bytes that still arrive.
        after: usize,
    },
    /// The body comes at this pace.
    Trickle {
        /// Bytes a second.
        bytes_per_second: usize,
    },
    /// The connection breaks before there is an answer.
    Close,
    /// There is never an answer.
    Silence,
    /// The server waits until it is healed, and then does what it was asked.
    Hold,
    /// The answer is whole, and its body is another one than the object's.
    Damage(Damage),
    /// The server does not know what `Range` and `If-None-Match` mean.
    Ignorance,
}

/// How a body differs from what the server has. The head of the answer says the length that the body then has, so that nothing but the
/// bytes themselves can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The bits of this byte are turned over; the last byte's if there are not so many.
    Flip {
        /// Bytes before it.
        at: usize,
    },
    /// It ends after this many bytes.
    Cut {
        /// Bytes that are left.
        to: usize,
    },
}

impl Damage {
    pub(crate) fn done_to(self, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        match self {
            Self::Flip { at } => {
                let last = body.len().saturating_sub(1);
                if let Some(byte) = body.get_mut(at.min(last)) {
                    *byte = !*byte;
                }
            }
            Self::Cut { to } => body.truncate(to),
        }
        body
    }
}

/// Which requests a mishap befalls.
#[derive(Debug, Clone)]
pub struct Rule {
    method: Option<&'static str>,
    path: Option<String>,
    skip: usize,
    times: usize,
    mishap: Mishap,
}

impl Rule {
    /// All requests.
    pub fn always(mishap: Mishap) -> Self {
        Self {
            method: None,
            path: None,
            skip: 0,
            times: usize::MAX,
            mishap,
        }
    }

    /// Requests with this method.
    pub fn on(method: &'static str, mishap: Mishap) -> Self {
        Self {
            method: Some(method),
            ..Self::always(mishap)
        }
    }

    /// Only requests whose path or query contains this.
    #[must_use]
    pub fn of(self, part: impl Into<String>) -> Self {
        Self {
            path: Some(part.into()),
            ..self
        }
    }

    /// Lets the first requests that fit pass.
    #[must_use]
    pub fn after(self, requests: usize) -> Self {
        Self {
            skip: requests,
            ..self
        }
    }

    /// Strikes this often, then no more.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    fn fits(&self, request: &Request) -> bool {
        self.method.is_none_or(|method| method == request.method)
            && self
                .path
                .as_ref()
                .is_none_or(|part| request.path.contains(part) || request.query.contains(part))
    }

    pub(crate) fn first_of(rules: &mut [Self], request: &Request) -> Option<Mishap> {
        for rule in rules.iter_mut().filter(|rule| rule.fits(request)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                return Some(rule.mishap.clone());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Damage;

    #[test]
    fn damage_is_one_byte_or_all_behind_one() {
        assert_eq!(Damage::Flip { at: 1 }.done_to(&[1, 2, 3]), [1, 253, 3]);
        assert_eq!(Damage::Flip { at: 9 }.done_to(&[1, 2, 3]), [1, 2, 252]);
        assert!(Damage::Flip { at: 0 }.done_to(&[]).is_empty());
        assert_eq!(Damage::Cut { to: 2 }.done_to(&[1, 2, 3]), [1, 2]);
    }
}
