//! Extended attributes as the kernel asks for them: first for the length, then for so many bytes.

use attachfs_vfs::SetXattr;
use fuser::{Errno, ReplyXattr};
use rustix::fs::XattrFlags;

use super::answer::{Answer, Refuse, Terms};

/// What setxattr(2) is to do; `None` for flags that there are not.
pub(super) fn set_xattr(flags: i32) -> Option<SetXattr> {
    match XattrFlags::from_bits(flags.cast_unsigned())? {
        XattrFlags::CREATE => Some(SetXattr::Create),
        XattrFlags::REPLACE => Some(SetXattr::Replace),
        flags if flags.is_empty() => Some(SetXattr::Always),
        _ => None,
    }
}

/// The answer to a request for the value of an attribute, or for their names.
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
    fn answer(self, value: &[u8], _: Terms) {
        // A value is a line for each chunk of a file at most, or what the kernel allows to set.
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        match self.room {
            0 => self.reply.size(len),
            room if room < len => self.reply.error(Errno::ERANGE),
            _ => self.reply.data(value),
        }
    }
}
