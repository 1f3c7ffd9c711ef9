//! Extended attributes as the kernel asks for them: first for the length, then for so many bytes.

use fuser::{Errno, ReplyXattr};

use super::answer::{Answer, Refuse};

/// The answer to a request for the value of an attribute.
#[derive(Debug)]
pub(super) struct XattrReply {
    reply: ReplyXattr,
    /// How many bytes the asker has room for; 0 asks for the length.
    room: u32,
}

impl XattrReply {
    pub(super) fn new(reply: ReplyXattr, room: u32) -> Self {
        Self { reply, room }
    }
}

impl Refuse for XattrReply {
    fn refuse(self, errno: Errno) {
        self.reply.error(errno);
    }
}

impl Answer<&[u8]> for XattrReply {
    fn answer(self, value: &[u8]) {
        // A value is a line for each chunk of a file at most.
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        match self.room {
            0 => self.reply.size(len),
            room if room < len => self.reply.error(Errno::ERANGE),
            _ => self.reply.data(value),
        }
    }
}
