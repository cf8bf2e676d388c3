//! The names of clients (`flashVer`), for the log lines about refusals.
//!
//! Nearly all clients share a few names. Each name is stored once, so that a connection holds two
//! bytes instead of a string.

use crate::limits::{ENCODER_NAME_BYTES_MAX, ENCODERS_MAX};
use crate::text::Escaped;
use std::fmt;

/// The name of one connection's client in [`Encoders`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderId(u16);

/// The names of all clients. See the module's head.
#[derive(Debug, Default)]
pub(super) struct Encoders {
    /// Entries without connections are reused.
    names: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: Box<[u8]>,
    /// Connections whose client has this name.
    users: u32,
}

const _: () = assert!(ENCODERS_MAX < u16::MAX as usize);

impl Encoders {
    /// Notes the name of a connection's client, cut to [`ENCODER_NAME_BYTES_MAX`]. Returns the
    /// default id for a client without a name, and beyond [`ENCODERS_MAX`] different names.
    pub(super) fn enter(&mut self, name: &[u8]) -> EncoderId {
        let name = &name[..name.len().min(ENCODER_NAME_BYTES_MAX)];
        let is_known = |entry: &Entry| entry.users > 0 && *entry.name == *name;
        let index = match self.names.iter().position(is_known) {
            _ if name.is_empty() => return EncoderId::default(),
            Some(index) => index,
            None => match self.names.iter().position(|entry| entry.users == 0) {
                Some(index) => {
                    self.names[index].name = name.into();
                    index
                }
                None if self.names.len() < ENCODERS_MAX => {
                    self.names.push(Entry { name: name.into(), users: 0 });
                    self.names.len() - 1
                }
                None => return EncoderId::default(),
            },
        };
        self.names[index].users += 1;
        EncoderId(index as u16 + 1)
    }

    /// Returns the name of a client, if it has told one.
    pub(super) fn name(&self, id: EncoderId) -> Option<String> {
        let entry = self.names.get(self.entry_index(id)?)?;
        Some(Escaped(&entry.name).to_string())
    }

    /// Notes the end of a connection.
    pub(super) fn leave(&mut self, id: EncoderId) {
        if let Some(entry) = self.entry_index(id).and_then(|index| self.names.get_mut(index)) {
            entry.users -= 1;
        }
    }

    /// Returns the name as the end of a phrase, such as ` by "FMLE/3.0"`. Empty without a name.
    pub(super) fn by(&self, id: EncoderId) -> By<'_> {
        By(self.entry_index(id).and_then(|index| self.names.get(index)).map(|entry| &*entry.name))
    }

    fn entry_index(&self, id: EncoderId) -> Option<usize> {
        usize::from(id.0).checked_sub(1)
    }
}

/// See [`Encoders::by`].
#[derive(Clone, Copy, Debug)]
pub(super) struct By<'a>(Option<&'a [u8]>);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " by \"{}\"", Escaped(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_kept_once_as_long_as_one_connection_has_it() {
        let mut encoders = Encoders::default();
        let [first, second] = [(); 2].map(|()| encoders.enter(b"FMLE/3.0"));
        let other = encoders.enter(b"Lavf\n");
        assert_eq!((first, encoders.names.len()), (second, 2));
        assert_eq!(encoders.by(first).to_string(), " by \"FMLE/3.0\"");
        assert_eq!(encoders.by(other).to_string(), " by \"Lavf\\n\"");
        encoders.leave(first);
        assert_eq!(encoders.enter(b"x"), EncoderId(3), "the other connection still has it");
        encoders.leave(second);
        assert_eq!(encoders.enter(b"FMLE/4"), first, "its entry is reused");
        assert_eq!(encoders.by(first).to_string(), " by \"FMLE/4\"");
    }

    #[test]
    fn names_are_bounded_in_number_and_length() {
        let mut encoders = Encoders::default();
        let numbered = |number: usize| format!("{number}{}", "x".repeat(ENCODER_NAME_BYTES_MAX));
        for number in 0..ENCODERS_MAX {
            assert_ne!(encoders.enter(numbered(number).as_bytes()), EncoderId::default());
        }
        assert_eq!(encoders.enter(b"one more"), EncoderId::default());
        assert_ne!(encoders.enter(numbered(0).as_bytes()), EncoderId::default(), "it is known");
        assert!(encoders.names.iter().all(|entry| entry.name.len() == ENCODER_NAME_BYTES_MAX));
        encoders.leave(EncoderId::default());
        assert_eq!(encoders.by(EncoderId::default()).to_string(), "");
        assert_eq!(encoders.enter(b""), EncoderId::default(), "no name");
    }
}
