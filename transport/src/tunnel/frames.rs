//! What the tunnel reads of a frame, and nothing that waits.
//!
//! ```text
//!  total size | command size | command: a kind, and one message of that kind | payload
//! ```

use std::io;

use bytes::Buf as _;
use prost::Message as _;
use prost::encoding::decode_varint;
use pulsar::proto::BaseCommand;

/// The wire types of protobuf.
const VARINT: u64 = 0;
const BYTES: u64 = 2;

/// The kind of a command, if it is of the kind that it says.
///
/// The crate looks at what a command holds and not at its kind. So a command has one kind and holds one message, which is
/// that kind's: in Pulsar's protocol its field has the kind's number.
pub fn kind(mut command: &[u8]) -> Option<u64> {
    let (mut kind, mut held) = (None, None);
    while command.has_remaining() {
        let tag = decode_varint(&mut command).ok()?;
        let number = decode_varint(&mut command).ok()?;
        let before = match (tag >> 3, tag & 7) {
            (1, VARINT) => kind.replace(number),
            (field @ 2.., BYTES) => {
                command = command.get(usize::try_from(number).ok()?..)?;
                held.replace(field)
            }
            _ => return None,
        };
        if before.is_some() {
            return None;
        }
    }
    kind.filter(|kind| held == Some(*kind))
}

pub fn decode(command: &[u8]) -> io::Result<BaseCommand> {
    BaseCommand::decode(command).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// What stands before a command.
pub fn head(total: usize, size: usize) -> [u8; 8] {
    let length = |bytes: usize| u32::try_from(bytes).expect("it was read as four bytes").to_be_bytes();
    let mut head = [0; 8];
    head[..4].copy_from_slice(&length(total));
    head[4..].copy_from_slice(&length(size));
    head
}

/// Whether the next frame is here as a whole; if not, it may be long in coming.
pub fn is_whole(mut buffer: &[u8]) -> bool {
    buffer.len() >= 4 && buffer.get_u32() as usize <= buffer.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_of_the_kind_that_it_says() {
        // A lookup's answer (24) and a ping (18), each with nothing in it: its tag is two bytes.
        let (answer, ping) = ([0xc2, 0x01, 0], [0x92, 0x01, 0]);
        let says = |kind: u8| [0x08, kind];
        assert_eq!(kind(&[&says(24)[..], &answer].concat()), Some(24));
        assert_eq!(kind(&[&answer[..], &says(24)].concat()), Some(24));
        for lie in [
            [&says(18)[..], &answer].concat(),
            [&says(18)[..], &ping, &answer].concat(),
            [&says(18)[..], &answer, &ping].concat(),
            [&says(24)[..], &answer, &answer].concat(),
            [&says(18)[..], &says(24), &answer].concat(),
            [&says(24)[..], &answer, &says(18)].concat(),
            // No kind, nothing, cut off, and a group instead of a message.
            answer.to_vec(),
            says(24).to_vec(),
            Vec::new(),
            [&says(24)[..], &answer[..2]].concat(),
            [&says(24)[..], &[0xc2, 0x01, 1]].concat(),
            [&says(24)[..], &[0xc3, 0x01, 0xc4, 0x01]].concat(),
        ] {
            assert_eq!(kind(&lie), None, "{lie:?}");
        }
    }
}
