//! Places where HTTP is listened on: addresses and unix sockets.

use super::field::{Field, ListenAddress, Written, Wrong, listen_address, read_places};
use std::fmt;
use std::net::SocketAddr;

/// An address or a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenPlace {
    /// An address.
    Address(ListenAddress),
    /// A unix socket, written as `unix:/path`.
    Socket(SocketPath),
}

impl From<SocketAddr> for ListenPlace {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address.into())
    }
}

impl fmt::Display for ListenPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Socket(path) => path.fmt(f),
        }
    }
}

/// The absolute path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketPath(String);

impl SocketPath {
    /// Longest path (bytes): the field `sun_path` of the kernel, without the closing NUL.
    pub const BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

    /// Takes a path. The error is the description of a valid path.
    pub fn new(path: &str) -> Result<Self, String> {
        if path.starts_with('@') {
            return Err(
                "a path, as in \"unix:/run/tiderace/http.sock\": abstract sockets have no \
                        permissions"
                    .to_owned(),
            );
        }
        if path.contains(|c: char| c.is_control() || "\"\\".contains(c)) {
            return Err("a path without quotes, backslashes and control characters".to_owned());
        }
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(
                "an absolute path after unix:, as in \"unix:/run/tiderace/http.sock\"".to_owned()
            );
        }
        if path.len() > Self::BYTES_MAX {
            let (len, max) = (path.len(), Self::BYTES_MAX);
            return Err(format!("a path of at most {max} bytes, and this one has {len}"));
        }
        Ok(Self(path.to_owned()))
    }

    /// Returns the path.
    pub fn get(&self) -> &str {
        &self.0
    }
}

/// Shows it as it is configured.
impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SOCKET_PREFIX}{}", self.0)
    }
}

/// Addresses and unix sockets to listen on, of which there may be none.
#[derive(Clone, Debug)]
pub struct OptionalListen {
    /// The addresses and unix sockets.
    pub places: Vec<ListenPlace>,
    /// Whether a file or a flag names them. The server starts without a default address that is
    /// taken, but not without one that the user asked for.
    pub is_configured: bool,
}

/// Compares the places alone: a file that repeats the default changes nothing.
impl PartialEq for OptionalListen {
    fn eq(&self, other: &Self) -> bool {
        self.places == other.places
    }
}

impl Eq for OptionalListen {}

impl OptionalListen {
    /// No address.
    pub const NONE: Self = Self { places: Vec::new(), is_configured: false };

    /// Returns one address that nobody has asked for.
    pub(super) fn default_of(address: SocketAddr) -> Self {
        Self { places: vec![address.into()], is_configured: false }
    }
}

impl Field for OptionalListen {
    type Rule = ();

    fn read(written: &Written<'_>, (): &()) -> Result<Self, Vec<Wrong>> {
        let may_repeat = |place: &ListenPlace| match place {
            ListenPlace::Address(address) => address.address.port() == 0,
            ListenPlace::Socket(_) => false,
        };
        let places = match written {
            Written::List(items) if items.is_empty() => Vec::new(),
            Written::Text("") => Vec::new(),
            Written::Words(words) if words.iter().all(String::is_empty) => Vec::new(),
            _ => read_places(written, &Self::expected(&()), listen_place, may_repeat)?,
        };
        Ok(Self { places, is_configured: true })
    }

    fn expected((): &()) -> String {
        "[] or addresses like \"127.0.0.1:8080\", \":8080\" or \"unix:/path\"".into()
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.places.iter().map(|place| format!("\"{place}\"")).collect();
        format!("[{}]", items.join(", "))
    }
}

/// Beginning of a unix socket in the settings.
pub(super) const SOCKET_PREFIX: &str = "unix:";

fn listen_place(text: &str) -> Result<ListenPlace, String> {
    match text.strip_prefix(SOCKET_PREFIX) {
        Some(path) => SocketPath::new(path).map(ListenPlace::Socket),
        None => listen_address(text).map(ListenPlace::Address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<OptionalListen, Vec<Wrong>> {
        let words: Vec<_> = texts.iter().map(ToString::to_string).collect();
        OptionalListen::read(&Written::Words(&words), &())
    }

    #[test]
    fn unix_sockets_stand_beside_addresses() {
        let listen = read(&["unix:/run/tiderace/http.sock", ":8080"]).unwrap();
        assert_eq!(listen.show(), "[\"unix:/run/tiderace/http.sock\", \"[::]:8080\"]");
        let ListenPlace::Socket(path) = &listen.places[0] else { panic!("{listen:?}") };
        assert_eq!(path.get(), "/run/tiderace/http.sock");
    }

    #[test]
    fn wrong_path_is_answered_with_what_is_wrong_in_it() {
        let long = |bytes: usize| format!("unix:/{}", "a".repeat(bytes - 1));
        assert!(read(&[&long(SocketPath::BYTES_MAX)]).is_ok());
        let longer = long(SocketPath::BYTES_MAX + 1);
        for (text, expected) in [
            ("unix:", "an absolute path after unix:"),
            ("unix:http.sock", "an absolute path after unix:"),
            ("unix:/run/", "an absolute path after unix:"),
            ("unix:@tiderace", "abstract sockets have no permissions"),
            ("unix:/run/\"", "without quotes"),
            ("unix:/run/a\0b", "without quotes, backslashes and control"),
            #[cfg(target_os = "linux")]
            (&longer, "a path of at most 107 bytes, and this one has 108"),
            ("unix", "an address like"),
        ] {
            let wrong = read(&[text]).unwrap_err();
            assert!(wrong[0].expected.contains(expected), "{text:?}: {wrong:?}");
        }
    }

    #[test]
    fn a_unix_socket_is_named_once() {
        let wrong = read(&["unix:/run/a", ":0", ":0", "unix:/run/a"]).unwrap_err();
        assert_eq!(wrong.iter().map(|wrong| wrong.item).collect::<Vec<_>>(), [Some(3)]);
    }
}
